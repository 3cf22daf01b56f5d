"""MindSpore's device and what it can compute, with errors in the project's words."""

from __future__ import annotations

from contextlib import suppress

import mindspore as ms
from mindspore import ops

from resnet_spec.contract import Precision
from resnet_spec.errors import BackendError, did_you_mean, problem
from resnet_spec_mindspore import isa
from resnet_spec_mindspore.conditions import wrong_cache
from resnet_spec_mindspore.warmup import silenced

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
"""No float64: MindSpore's convolution has no such kernel on any target."""

_TARGETS = {"ascend": "Ascend", "gpu": "GPU", "cpu": "CPU"}
_DTYPES = {"float32": ms.float32, "float16": ms.float16, "bfloat16": ms.bfloat16}


def find_device(name: str) -> str:
    """Choose the process's device and return its name, as "CPU" or "Ascend:0".

    name: "auto" keeps what the process has chosen, by default MindSpore's own order: Ascend, GPU,
        CPU. Otherwise a target of MindSpore, with its number: "Ascend:1".

    A process has one device. Raises BackendError where it is not there, or is another already, and
    where MindSpore's cache of compiled graphs would make numbers wrong.
    """
    if line := wrong_cache():
        raise BackendError(line)
    if name != "auto":
        _choose(name)
    target = ms.get_context("device_target")
    return target if target == "CPU" else f"{target}:{ms.get_context('device_id')}"


def _choose(name: str) -> None:
    target, number = _named(name)
    with silenced(), suppress(Exception):  # Whatever a driver raises.
        ms.set_device(target, int(number)) if number else ms.set_device(target)
    current = ms.get_context("device_target")
    if current != target or (number and ms.get_context("device_id") != int(number)):
        rule = f"cannot be used by MindSpore here, where the process's device is {current}"
        raise BackendError(problem("device", name, rule, "use auto"))


def _named(name: str) -> tuple[str, str]:
    """Return a target of MindSpore and its number, "" for none. Raises BackendError for others."""
    word, _, number = name.partition(":")
    target = _TARGETS.get(word.lower())
    if target is None or not (number.isdigit() or number == ""):
        hint = did_you_mean(word, ("auto", *_TARGETS.values()))
        raise BackendError(problem("device", name, "is not one of MindSpore's", hint))
    return target, number


def check_ahead(device: str, precision: str) -> None:
    """Raise BackendError for what no session here can have; an accelerator is not touched.

    It is chosen as the processes meet, before anything may run on it.
    """
    if line := wrong_cache():
        raise BackendError(line)
    if device != "auto":
        _named(device)
    if ms.get_context("device_target") == "CPU":
        find_device(device)
        find_dtype(precision)
    else:
        _check_named(precision)


def find_dtype(precision: str) -> ms.Type:
    """Return the type to compute in. Raises BackendError where the device has no kernels for it."""
    _check_named(precision)
    dtype = _DTYPES[precision]
    if dtype != ms.float32 and not _convolves(dtype):
        rule = f"MindSpore has no {precision} convolution on {ms.get_context('device_target')}"
        raise BackendError(problem("precision", precision, rule, "use float32"))
    return dtype


def _check_named(precision: str) -> None:
    if precision == "float64":
        rule = "MindSpore has no float64 convolution"
        raise BackendError(problem("precision", precision, rule, "use float32"))
    if precision not in PRECISIONS:
        hint = did_you_mean(precision, PRECISIONS)
        raise BackendError(problem("precision", precision, "is not one of MindSpore's", hint))


def _convolves(dtype: ms.Type) -> bool:
    """Whether the device has a kernel: asked by running it, for no table lists them."""
    image = ops.ones((1, 1, 1, 1), dtype)
    try:
        with silenced():
            ops.conv2d(image, image).astype(ms.float32).asnumpy()
    except (TypeError, RuntimeError, ValueError):
        return False
    return True


def describe_environment(
    device: str, precision: str, run_in: str, processes: int = 1
) -> dict[str, str]:
    """Return `Session.info`; on a CPU with the instruction set of its convolutions."""
    found = {
        "framework": "mindspore",
        "version": ms.__version__,
        "device": device,
        "precision": precision,
        "math": describe_math(precision),
        "mode": run_in,
        "isa": isa.describe(),
        "processes": str(processes) if processes > 1 else "",
    }
    return {key: text for key, text in found.items() if text}


def describe_math(precision: str) -> str:
    """Name the fast-math modes in force; "strict" for none."""
    fast = {"GPU": "tf32", "Ascend": "hf32"}.get(ms.get_context("device_target"))
    modes = [f"mixed {precision}"] if precision != "float32" else []
    # MindSpore's default for convolutions; its settings cannot be read back.
    modes += [f"{fast} convolutions unless switched off"] if fast and not modes else []
    return ", ".join(modes) or "strict"
