"""What XLA's compiler is told of a session's programs, beside what it does by itself."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_spec import ops
from resnet_spec.plan import Plan
from resnet_spec_flax import convolutions, layers, modules

Options = dict[str, Any]

_BARRIERS_STAY: Options = {"xla_disable_hlo_passes": "cse_barrier_expander"}
"""For XLA's compiler for CPUs, which takes barriers away early, and then has the backward pass use
the activations of the forward one: they would be kept after all."""

_SWITCH = "xla_cpu_experimental_ynn_fusion_type"
_KINDS = ("INDIVIDUAL_CONVOLUTION", "INDIVIDUAL_DOT", "ELTWISE")
ELEMENTWISE: Options = {_SWITCH: ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in _KINDS)}
"""For XLA's compiler for CPUs (JAX 0.10), which has a library compute convolutions, products and
sums over a map: elementwise ops between those, too, and sums not."""

_CPUINFO = Path("/proc/cpuinfo")
_FUNCTIONS = (layers.relu, layers.sigmoid)
_LAYERS = (nnx.Conv, nnx.Linear)
"""Of Flax's own layers, those that networks here are made of."""
_LIBRARIES = ("jax.", "flax.", convolutions.__name__)


class CompilerOptions(NamedTuple):
    """Options of `jax.jit`, by what a program does; None where there are none."""

    predict: Options | None
    backward: Options | None


def compiler_options(plan: Plan, network: nnx.Module, platform: str) -> CompilerOptions:
    """Return the options for the programs of `network`, which `plan` is of.

    platform: of the device, as JAX calls it.
    """
    if platform != "cpu":
        return CompilerOptions(None, None)
    is_quicker = gains(plan) and keeps_numbers(network) and _is_measured_here()
    return CompilerOptions(
        predict=ELEMENTWISE if is_quicker else None,
        backward=_BARRIERS_STAY if plan.remat else None,
    )


def gains(plan: Plan) -> bool:
    """Return whether a network is quicker with elementwise ops in the library's loops.

    Networks of 3x3 convolutions are; those of bottlenecks, whose 1x1 convolutions are products,
    are not, and in training none is. `scripts/flax_elementwise.py` measures it.
    """
    kernels = [op.kernel for op in plan.ops if isinstance(op, ops.Conv) and op.groups == 1]
    return 2 * kernels.count((1, 1)) < len(kernels)


def keeps_numbers(network: nnx.Module) -> bool:
    """Return whether the library computes in `network` what XLA's own loops do.

    It leaves out roundings to bfloat16 and float16, and its maximum of NaN and 0 is 0. The layers
    here have no maximum; of those that a user has put in their place nothing is known.
    """
    return all(_is_known(module) for _, module in nnx.iter_modules(network))


def _is_known(module: nnx.Module) -> bool:
    if getattr(module, "dtype", jnp.float32) != jnp.float32 or isinstance(module, layers.Tap):
        return False
    if isinstance(module, layers.Activation):
        return type(module) is layers.Activation and module.function in _FUNCTIONS
    if type(module) in _LAYERS:
        return all(map(_is_libraries, vars(module).values()))
    return type(module).__module__ in (layers.__name__, modules.__name__)


def _is_libraries(part: Any) -> bool:
    """Return whether a function that a layer computes by, if it is one, is nobody's own."""
    is_function = callable(part) and not isinstance(part, nnx.Variable)
    return not is_function or str(getattr(part, "__module__", "")).startswith(_LIBRARIES)


def _is_measured_here() -> bool:
    """Return whether the CPU is of the kind that was measured; what the user tells XLA remains."""
    is_told = _SWITCH in os.environ.get("XLA_FLAGS", "")
    return not is_told and _has_avx512() and has_option()


def _has_avx512() -> bool:
    """Return whether the CPU has AVX-512; False but on Linux, which tells."""
    try:
        return "avx512f" in _CPUINFO.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False


@cache
def has_option() -> bool:
    """Return whether this XLA has the option; it tells by refusing to compile."""
    try:
        jax.jit(jnp.negative, compiler_options=ELEMENTWISE).lower(jnp.float32(0)).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
