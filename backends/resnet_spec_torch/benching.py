"""What `resnet-spec bench` asks of torch: a matrix product's speed, and the device's memory.

Reached by name (`manifest.toml`, "bench"). Imported only when something is benched.
"""

from __future__ import annotations

import torch

from resnet_spec.bench import Case, Product
from resnet_spec_torch.devices import REDUCED, find_device, find_dtype

_SIZE, _SIZE_OF_AN_ACCELERATOR = 1024, 4096


def product(case: Case) -> Product:
    """Return the product of two matrices in the case's precision, on its device."""
    device = find_device(case.device)
    dtype = REDUCED.get(case.precision) or find_dtype(case.precision, device)
    size = _SIZE if device.type == "cpu" else _SIZE_OF_AN_ACCELERATOR

    @torch.inference_mode()
    def turn(count: int) -> None:
        a, b = (torch.full((size, size), 0.5, dtype=dtype, device=device) for _ in range(2))
        out = torch.empty_like(a)
        for _ in range(count):
            torch.mm(a, b, out=out)
        wait(device)

    isa = {"isa": torch.backends.cpu.get_cpu_capability()} if device.type == "cpu" else {}
    return Product(size, turn, isa)


def wait(device: torch.device) -> None:
    """Return when `device` has done all that it was given."""
    if device.type == "cpu":
        return
    module = torch.mps if device.type == "mps" else getattr(torch, device.type)
    module.synchronize()


def device_bytes() -> int | None:
    """Return the bytes of CUDA devices' memory that were held at the most; None without one."""
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return sum(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
