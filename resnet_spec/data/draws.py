"""Random numbers as a function of (seed, epoch or step, stream, place): raw 64-bit words only.

NumPy promises that the streams of its bit generators never change, and promises nothing for the
methods of `Generator`; so every draw here is plain arithmetic on Philox's raw words (Salmon et al.
2011, Philox-4x64-10). The key is (seed, time) and the counter starts at (0, place, 0, stream).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]


class Stream(IntEnum):
    """What a stream of words is used for. The numbers are part of what a seed means."""

    PERMUTATION = 1
    CROP = 2
    FLIP = 3
    BOX = 4
    NOISE = 5
    SYNTHETIC = 6
    SPLIT = 7
    HELD_OUT = 8
    MIX = 9
    POLICY = 10
    JITTER = 11
    ERASE = 12


COPY = 2**32
"""The place of copy c of a sample, where it is in a batch several times: c * COPY + sample."""


def words(seed: int, time: int, stream: Stream, count: int, place: int = 0) -> Words:
    """Return `count` words, uint64 [count]. `time` is the epoch or step, `place` below 2**64."""
    key = np.array([seed, time], dtype=np.uint64)
    counter = np.array([0, place, 0, stream], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def order(drawn: Words) -> NDArray[np.int64]:
    """Return the permutation that sorts `drawn`, int64 [n]."""
    return drawn.argsort(kind="stable").astype(np.int64)


def below(drawn: Words, bound: int) -> NDArray[np.int64]:
    """Return integers in 0..bound-1 from the upper halves of `drawn`; `bound` is at most 2**31.

    No value is likelier than another by more than bound / 2**32 of itself.
    """
    return ((drawn >> np.uint64(32)) * np.uint64(bound) >> np.uint64(32)).astype(np.int64)


def bits(drawn: Words) -> NDArray[np.bool_]:
    """Return the top bit of each word."""
    return drawn >> np.uint64(63) == 1


def uniforms(drawn: Words) -> NDArray[np.float64]:
    """Return float64 in [0, 1) from the upper 53 bits of each word."""
    return (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53
