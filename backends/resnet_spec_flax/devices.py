"""JAX's devices, with errors in the project's words.

JAX looks for its platforms at the first question, and whatever a platform's start raises comes out
there: RuntimeError, but AssertionError, too, without a text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import jax

from resnet_spec.contract import Precision
from resnet_spec.errors import BackendError, did_you_mean, problem
from resnet_spec_flax.kept_programs import keep_programs

PRECISIONS: tuple[Precision, ...] = ("float32", "float64", "bfloat16", "float16")

# Parameters and statistics stay in float32 under the reduced precisions (mixed precision,
# Micikevicius et al. 2018).
REDUCED = ("bfloat16", "float16")

_ALL = "all"


def check_precision(name: str) -> None:
    """Raise BackendError where a session cannot compute in it."""
    if name not in PRECISIONS:
        hint = did_you_mean(name, PRECISIONS)
        raise BackendError(problem("precision", name, "is not one of flax's", hint))


def check_ahead(device: str, precision: str) -> None:
    """Raise BackendError for what no session can have. JAX may see no device before `join`."""
    del device
    check_precision(precision)


def is_every(name: str) -> bool:
    """Whether `name` means all devices of a platform that this process has, as "tpu:all"."""
    return name.partition(":")[2] == _ALL


def find_device(name: str) -> Any:
    """Return the `jax.Device` called `name`, as "gpu" or "cuda:1", or the best there is.

    Of all devices of a platform, as "gpu:all", it is the first.

    Raises BackendError where it is not there, or no platform can be started.
    """
    there = _started()
    if name == "auto":
        return there[0]
    platform, _, index = name.partition(":")
    index = "0" if is_every(name) else index
    try:
        if not platform or not (index or "0").isdigit():
            raise ValueError(name)  # JAX takes "" for auto, and Python -1 for the last one.
        return jax.local_devices(backend=platform)[int(index or 0)]
    except Exception:  # IndexError, ValueError, and what a platform raises.
        names = dict.fromkeys(["auto", *(device.platform for device in there), *_cpu()])
        remedy = f"choose from {', '.join(names)}"
        raise BackendError(problem("device", name, "cannot be used by jax here", remedy)) from None


def cpu() -> Any:
    """Return the CPU, or the best device where JAX_PLATFORMS leaves it out."""
    there = _started()
    return jax.local_devices(backend="cpu")[0] if _cpu() else there[0]


def describe(device: Any) -> str:
    """Return the device in words, for `Session.info`."""
    if device.platform == "cpu":
        return "cpu"
    return f"{device.platform}:{device.id} ({device.device_kind})"


def _started() -> list[Any]:
    """Return this process's devices of the best platform; starts JAX's platforms."""
    keep_programs()
    try:
        own = jax.process_index()
        return [device for device in jax.devices() if device.process_index == own]
    except Exception as error:
        wanted = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
        why = " ".join(str(error).split()).partition(" (set JAX_PLATFORMS")[0].rstrip(".")
        if wanted is None:
            raise BackendError(f"jax: finds no device: {why or type(error).__name__}") from None
        rule = f"cannot be started here ({why})" if why else "is a platform that is not there"
        where = "JAX_PLATFORMS" if "JAX_PLATFORMS" in os.environ else "jax_platforms"
        remedy = f"unset {where}, or set it to cpu"
        raise BackendError(problem(where, wanted, rule, remedy)) from None


def _cpu() -> list[str]:
    """Return "cpu" where it can be used; JAX_PLATFORMS may leave it out."""
    try:
        jax.devices("cpu")
    except Exception:
        return []
    return ["cpu"]


@contextmanager
def settings(device: Any, precision: Precision) -> Iterator[None]:
    """JAX's settings for one session alone; those of the process stay as they are."""
    with ExitStack() as stack:
        stack.enter_context(jax.enable_x64(precision == "float64"))
        stack.enter_context(jax.default_device(device))
        if precision not in REDUCED:
            # By default, float32 products are TF32 on GPUs and bfloat16 on TPUs.
            stack.enter_context(jax.default_matmul_precision("highest"))
        yield


@contextmanager
def memory_errors(device: Any) -> Iterator[None]:
    """Turn the device's want of memory in a training step into a BackendError."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        rule = f"a training step does not fit into the memory of {describe(device)}"
        raise BackendError(f"batch: {rule}; lower it, or raise accumulate") from None
