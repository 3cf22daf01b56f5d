"""torch's devices, types and memory formats, with errors in the project's words."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from resnet_spec.compile_cache import compile_cache
from resnet_spec.contract import Precision
from resnet_spec.errors import BackendError, did_you_mean, problem
from resnet_spec.freed_memory import keep_freed_memory

PRECISIONS: tuple[Precision, ...] = ("float32", "float64", "bfloat16", "float16")

# Parameters and statistics stay in float32 under the reduced precisions (mixed precision,
# Micikevicius et al. 2018).
REDUCED = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def find_device(name: str) -> torch.device:
    """Return the device called `name`, or the best there is. Raises BackendError."""
    try:
        # Ascend's torch_npu adds torch.npu when imported.
        if (name == "auto" or name.startswith("npu")) and importlib.util.find_spec("torch_npu"):
            importlib.import_module("torch_npu")
        if name == "auto":
            return torch.device(next(filter(_is_available, ("cuda", "npu", "mps")), "cpu"))
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception:  # Whatever a driver, or a package that torch asks for the device, raises.
        device = torch.device("meta")
    if device.type == "meta":
        there = [kind for kind in ("cuda", "npu", "mps") if _is_available(kind)]
        remedy = f"choose from auto, {', '.join([*there, 'cpu'])}"
        raise BackendError(problem("device", name, "cannot be used by torch here", remedy))
    return device


def check_ahead(device: str, precision: str) -> None:
    """Raise BackendError for what no session here can have; no accelerator is touched.

    One that is named without a number is every process's own, which it takes as it joins.
    """
    try:
        named = find_device(device) if device == "auto" else torch.device(device)
    except RuntimeError:
        named = torch.device("meta")
    if named.type not in ("cuda", "npu", "mps") or not _is_available(named.type):
        named = find_device(device)
    find_dtype(precision, named)


def take_own(place: int) -> None:
    """Make one of several GPUs or NPUs what a name without a number means in this process.

    place: this process's among those of the machine; each may see its own device alone.
    """
    for kind in ("cuda", "npu"):
        if _is_available(kind):
            module = getattr(torch, kind)
            module.set_device(place % module.device_count())


def started(name: str) -> torch.device:
    """Return the device called `name`, in use. Raises BackendError.

    One that torch calls available may still be broken or taken. On a CPU memory that is freed is
    kept from now on.
    """
    device = find_device(name)
    if device.type == "cpu":
        keep_freed_memory()
    try:
        torch.empty(1, device=device)
    except Exception as error:
        why = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
        rule = f"cannot be started by torch here ({why})"
        raise BackendError(problem("device", device, rule, "use device = cpu")) from None
    return device


def ready_compiler(device: torch.device) -> None:
    """Prepare torch.compile: what it makes is kept in $RESNET_SPEC_CACHE, where that is set.

    A folder that the user has given to torch, TORCHINDUCTOR_CACHE_DIR, remains. Raises BackendError
    where the other cannot be written to, or a CPU's kernels have no C++ compiler to run through.
    """
    if (folder := compile_cache("torch")) is not None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    compilers = (os.environ.get("CXX", "g++"), "clang++", "cl")
    if device.type == "cpu" and not any(map(shutil.which, compilers)):
        raise BackendError(problem("compile", "true", "needs a C++ compiler", "install g++"))


def _is_available(kind: str) -> bool:
    module = torch.backends.mps if kind == "mps" else getattr(torch, kind, None)
    return module is not None and module.is_available()


def find_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of parameters and statistics. Raises BackendError."""
    if precision not in PRECISIONS:
        hint = did_you_mean(precision, PRECISIONS)
        raise BackendError(problem("precision", precision, "is not one of torch's", hint))
    if precision == "float64" and device.type in ("mps", "npu"):
        rule = f"is not computed by {device.type}"
        raise BackendError(problem("precision", precision, rule, "use float32, or device = cpu"))
    return torch.float64 if precision == "float64" else torch.float32


def describe(device: torch.device) -> str:
    """Return the device, with its model where torch knows it."""
    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"


def surroundings(
    device: torch.device, precision: str, layout: torch.memory_format
) -> dict[str, str]:
    """Return what a session's `info` says of where it computes, and in what."""
    return {
        "framework": "torch",
        "version": torch.__version__,
        "device": describe(device),
        "precision": precision,
        "math": math_of(device, precision),
        "threads": str(torch.get_num_threads()),
        "memory_format": str(layout).removeprefix("torch."),
        **({"freed_memory": keep_freed_memory()} if device.type == "cpu" else {}),
    }


def math_of(device: torch.device, precision: str) -> str:
    """Name the fast-math modes that torch's global settings put in force; "strict" for none."""
    if precision in REDUCED:
        return f"autocast {precision}"
    if precision == "float64" or device.type not in ("cpu", "cuda"):
        return "strict"
    settings = _float32_settings(device.type == "cuda").items()
    fast = [f"{name} {setting}" for name, setting in settings if setting not in ("none", "ieee")]
    return ", ".join(fast) or "strict"


def _float32_settings(cuda: bool) -> dict[str, str]:
    backends: Any = torch.backends
    if hasattr(backends, "fp32_precision"):  # Since torch 2.9; the older flags may then raise.
        convolutions = backends.cudnn.conv if cuda else backends.mkldnn.conv
        products = backends.cuda.matmul if cuda else backends.mkldnn.matmul
        settings = convolutions.fp32_precision, products.fp32_precision
    else:
        is_tf32 = cuda and backends.cudnn.allow_tf32
        product = torch.get_float32_matmul_precision().replace("highest", "none")
        settings = "tf32" if is_tf32 else "none", product
    return dict(zip(("convolutions", "products"), settings, strict=True))


@contextmanager
def memory_errors(device: torch.device) -> Iterator[None]:
    """Turn the device's want of memory in a training step into a BackendError."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        rule = f"a training step does not fit into the memory of {device}"
        raise BackendError(f"batch: {rule}; lower it, or raise accumulate") from None
