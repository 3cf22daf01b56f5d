"""What must not matter: the same network computed another way, which no level may call wrong.

A variation changes how a side computes, never what. Where it reorders images or channels, what
comes out is put back in order, so that every level and the localiser see what they expect.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from around import (
    ArraysStrided,
    BatchSplit,
    ChannelsPermuted,
    ImagesNormalised,
    ImagesReversed,
    OneStepPerCall,
    UsedBefore,
    around,
)
from patches import Patch, PatchedSide

from resnet_spec.errors import BackendError
from resnet_spec.loader import load_backend
from resnet_spec.parity.setup import Setup
from resnet_spec.parity.side import Side


@dataclass(frozen=True)
class Variation:
    """Another way to compute `case`.

    patch: what is done to a session before its first use. options: arguments of the session.
    around: settings of the framework, in force while the side computes.
    backends: where it can be done; () for everywhere.
    """

    case: str
    patch: Patch = field(default=lambda backend, session: None)
    options: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    backends: tuple[str, ...] = ()

    def side(self, backend: str, setup: Setup) -> Side:
        return PatchedSide(backend, setup, self.patch, **self.options)

    def suits(self, backend: str) -> bool:
        return not self.backends or backend in self.backends

    def obstacle(self, backend: str, setup: Setup) -> str:
        """Return why it cannot be done on this machine, "" where it can."""
        try:
            _ = self.side(backend, setup).info
        except BackendError as error:
            return str(error)
        return ""


# --- By framework ---------------------------------------------------------------------------------


@contextmanager
def two_threads() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def without_onednn() -> Iterator[None]:
    import torch

    # `mkldnn.flags` would set TF32, too, and warn that this is for Intel's GPUs.
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(True)


def _session_module(backend: str) -> Any:
    return sys.modules[load_backend(backend).Session.__module__]


@contextmanager
def contiguous() -> Iterator[None]:
    """Keep images, kernels and slots as NCHW; the session's own choice is NHWC."""
    import torch

    session = _session_module("torch")
    choose = session.memory_format_of
    session.memory_format_of = lambda *given: torch.contiguous_format
    try:
        yield
    finally:
        session.memory_format_of = choose


@contextmanager
def without_jit() -> Iterator[None]:
    import jax

    with jax.disable_jit():
        yield


def lax_convolutions(backend: str, session: Any) -> None:
    """Use XLA's convolution for the 1x1 kernels that are products."""
    import jax
    from flax import nnx

    convs = [m for _, m in nnx.iter_modules(session.native) if isinstance(m, nnx.Conv)]
    products = [m for m in convs if m.conv_general_dilated is not jax.lax.conv_general_dilated]
    assert products
    for module in products:
        module.conv_general_dilated = jax.lax.conv_general_dilated


@contextmanager
def op_by_op() -> Iterator[None]:
    """Let MindSpore run in PyNative mode where the session compiles graphs."""
    import mindspore

    session = _session_module("mindspore")
    mode = session.mode
    session.mode = lambda value: mode(mindspore.PYNATIVE_MODE)
    try:
        yield
    finally:
        session.mode = mode


HARMLESS: dict[str, Variation] = {
    "images_in_reverse_order": Variation("noise", around(ImagesReversed)),
    "evaluation_batch_split": Variation("plain", around(BatchSplit)),
    "images_given_normalised": Variation("plain", around(ImagesNormalised)),
    "arrays_strided": Variation("plain", around(ArraysStrided)),
    "session_used_before": Variation("plain", around(UsedBefore)),
    "one_step_per_call": Variation("plain", around(OneStepPerCall)),
    "channels_permuted": Variation("plain", around(ChannelsPermuted)),
    "sums_from_the_end": Variation(
        "imagenet_stem", options={"order": "reversed"}, backends=("numpy",)
    ),
    "sums_one_by_one": Variation(
        "pre_activation_everything", options={"order": "sequential"}, backends=("numpy",)
    ),
    "other_thread_count": Variation("plain", around=two_threads, backends=("torch",)),
    "contiguous_for_channels_last": Variation("bottleneck", around=contiguous, backends=("torch",)),
    "without_onednn": Variation("imagenet_stem", around=without_onednn, backends=("torch",)),
    "torch_compile": Variation("plain", options={"compile": True}, backends=("torch",)),
    "without_jit": Variation("plain", around=without_jit, backends=("flax",)),
    "lax_for_products": Variation("bottleneck", lax_convolutions, backends=("flax",)),
    "pynative_for_graphs": Variation("plain", around=op_by_op, backends=("mindspore",)),
}
