"""The policies that AutoAugment's search found (Cubuk et al. 2019, appendix): 25 pairs each.

Of every image one pair is drawn; its operations are applied one after the other, each with its own
probability. A level of 0 to 9 is a strength of level / 9; "-" where the operation has none.
"""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """One operation of a pair. level: 0 to 9."""

    operation: str
    probability: float
    level: int


Pair = tuple[Step, Step]


def _read(table: str) -> tuple[Pair, ...]:
    """Return the pairs of a table, one in each line: name, probability and level, twice."""
    return tuple((_step(line[:3]), _step(line[3:])) for line in map(str.split, table.splitlines()))


def _step(words: list[str]) -> Step:
    operation, probability, level = words
    return Step(operation, float(probability), 0 if level == "-" else int(level))


CIFAR10 = _read("""\
invert        0.1 -  contrast      0.2 6
rotate        0.7 2  translate_x   0.3 9
sharpness     0.8 1  sharpness     0.9 3
shear_y       0.5 8  translate_y   0.7 9
auto_contrast 0.5 -  equalize      0.9 -
shear_y       0.2 7  posterize     0.3 7
colour        0.4 3  brightness    0.6 7
sharpness     0.3 9  brightness    0.7 9
equalize      0.6 -  equalize      0.5 -
contrast      0.6 7  sharpness     0.6 5
colour        0.7 7  translate_x   0.5 8
equalize      0.3 -  auto_contrast 0.4 -
translate_y   0.4 3  sharpness     0.2 6
brightness    0.9 6  colour        0.2 8
solarize      0.5 2  invert        0.0 -
equalize      0.2 -  auto_contrast 0.6 -
equalize      0.2 -  equalize      0.6 -
colour        0.9 9  equalize      0.6 -
auto_contrast 0.8 -  solarize      0.2 8
brightness    0.1 3  colour        0.7 0
solarize      0.4 5  auto_contrast 0.9 -
translate_y   0.9 9  translate_y   0.7 9
auto_contrast 0.9 -  solarize      0.8 3
equalize      0.8 -  invert        0.1 -
translate_y   0.7 9  auto_contrast 0.9 -""")

IMAGENET = _read("""\
posterize     0.4 8  rotate        0.6 9
solarize      0.6 5  auto_contrast 0.6 -
equalize      0.8 -  equalize      0.6 -
posterize     0.6 7  posterize     0.6 6
equalize      0.4 -  solarize      0.2 4
equalize      0.4 -  rotate        0.8 8
solarize      0.6 3  equalize      0.6 -
posterize     0.8 5  equalize      1.0 -
rotate        0.2 3  solarize      0.6 8
equalize      0.6 -  posterize     0.4 6
rotate        0.8 8  colour        0.4 0
rotate        0.4 9  equalize      0.6 -
equalize      0.0 -  equalize      0.8 -
invert        0.6 -  equalize      1.0 -
colour        0.6 4  contrast      1.0 8
rotate        0.8 8  colour        1.0 2
colour        0.8 8  solarize      0.8 7
sharpness     0.4 7  invert        0.6 -
shear_x       0.6 5  equalize      1.0 -
colour        0.4 0  equalize      0.6 -
equalize      0.4 -  solarize      0.2 4
solarize      0.6 5  auto_contrast 0.6 -
invert        0.6 -  equalize      1.0 -
colour        0.6 4  contrast      1.0 8
equalize      0.8 -  equalize      0.6 -""")
