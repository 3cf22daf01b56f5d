"""What on this machine makes JAX slow, wrong or impossible; imports no framework.

Read by the core as a file, when backends are listed (`contract`, "conditions").
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

NVIDIA = Path("/proc/driver/nvidia/version")
"""Where Linux tells of a driver for NVIDIA's GPUs."""

# What JAX's platforms need beside jax, as importable names; those of others are plugins.
_NEEDS = {
    "cpu": (),
    "cuda": ("jax_cuda13_plugin", "jax_cuda12_plugin"),
    "gpu": ("jax_cuda13_plugin", "jax_cuda12_plugin", "jax_rocm7_plugin", "jax_rocm60_plugin"),
    "rocm": ("jax_rocm7_plugin", "jax_rocm60_plugin"),
    "tpu": ("libtpu",),
}


def conditions(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return what is known to be slow or wrong here, a line each; nothing without the framework."""
    if find_spec("jax") is None:
        return []
    lines = [*_platforms(environment), *_hidden(environment)]
    if environment.get("JAX_DISABLE_JIT", "").lower() in ("1", "true", "yes", "on"):
        lines.append("JAX_DISABLE_JIT = 1: compiles nothing, which is slow; unset it")
    return lines


def _platforms(environment: Mapping[str, str]) -> list[str]:
    """Name the platforms that JAX_PLATFORMS asks for and that are not installed."""
    wanted = environment.get("JAX_PLATFORMS", "")
    missing = [name for name in filter(None, wanted.split(",")) if not _is_there(name)]
    if not missing:
        return []
    named = f"{' and '.join(missing)} " if "," in wanted else ""
    rule = f"{named}is a platform that is not there"
    return [f"JAX_PLATFORMS = {wanted}: {rule}; unset JAX_PLATFORMS, or set it to cpu"]


def _is_there(platform: str) -> bool:
    """Return whether what the platform needs is installed, and for NVIDIA's whether a GPU is."""
    if platform not in _NEEDS:
        installed = (entry for found in distributions() for entry in found.entry_points)
        return any(entry.group == "jax_plugins" for entry in installed)
    needs = _NEEDS[platform]
    is_installed = not needs or any(find_spec(name) is not None for name in needs)
    return is_installed and (platform != "cuda" or NVIDIA.exists() or os.name == "nt")


def _hidden(environment: Mapping[str, str]) -> list[str]:
    """Name what keeps JAX from an NVIDIA GPU that is there."""
    if not NVIDIA.exists():
        return []
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return [f"CUDA_VISIBLE_DEVICES = {visible!r}: hides the GPU; unset it"]
    if not _is_there("cuda"):
        return ["jax: is its build for CPUs, and a GPU is there; run: pip install 'jax[cuda13]'"]
    return []
