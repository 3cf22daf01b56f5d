"""Files of the native module: ONNX, and torch's own exported programs.

Reached by name (`contract`, "export"). Imported only when something is exported.
"""

from __future__ import annotations

import io
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnet_spec.contract import Array
from resnet_spec.plan import Input, Plan
from resnet_spec_torch.modules import ResNet, build
from resnet_spec_torch.products import ProductConv2d
from resnet_spec_torch.weights import to_array, to_tensor

_EXTRA = "resnet_spec.json"


def write(
    path: Path,
    plan: Plan,
    state: Mapping[str, Array],
    kind: str,
    *,
    batch: int | None,
    raw: bool,
    metadata: str,
) -> str:
    """Write the network to `path`; return what there is to say of the format, in a few words.

    kind: "onnx" or "torch-export". batch: images at a time, None for any number. raw: whether it
    takes uint8 [N, H, W, C] instead of normalised float32 [N, C, H, W]. metadata: a text that the
    file carries.
    """
    network = Network(_plain(build(plan, dict(state))), plan.input, raw).eval()
    images = (network.example(plan.input, 2 if batch is None else batch),)
    # min=1: an example of two images shows nothing of what one image needs.
    shapes: Any = ({0: torch.export.Dim("batch", min=1)},) if batch is None else None
    if kind == "onnx":
        return _write_onnx(path, network, images, shapes, metadata)
    program = torch.export.export(network, images, dynamic_shapes=shapes, strict=False)
    # Not to the file itself: where the disk is full, torch's writer ends the process.
    whole = io.BytesIO()
    torch.export.save(program, whole, extra_files={_EXTRA: metadata})
    path.write_bytes(whole.getbuffer())
    return f"torch {torch.__version__}"


def _plain(network: ResNet) -> ResNet:
    """Have each convolution be one, and not the product that is quicker in torch."""
    for part in network.modules():
        if isinstance(part, ProductConv2d):
            part.be_plain()
    return network


def read(path: Path, kind: str) -> Callable[[Array], Array]:
    """Return the function in a file of `write`, from images to logits, as NumPy arrays."""
    assert kind == "torch-export", f"{kind} is run by others"
    module = torch.export.load(path).module()

    def run(images: Array) -> Array:
        with torch.no_grad():
            return to_array(module(to_tensor(images)))

    return run


class Network(ResNet):
    """The network with `images` as the name of its input, and the normalisation where wanted.

    Its parameters keep their canonical names.
    """

    def __init__(self, network: ResNet, image: Input, raw: bool) -> None:
        super().__init__(OrderedDict(network.named_children()))
        self.raw = raw
        if raw:
            for name, values in (("input_scale", image.scale), ("input_shift", image.shift)):
                self.register_buffer(name, torch.tensor(values).view(-1, 1, 1))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # The input's name in files.
        self, images: Tensor
    ) -> Tensor:
        """Images, as `raw` says, to logits [N, classes]."""
        if self.raw:
            scale, shift = self.get_buffer("input_scale"), self.get_buffer("input_shift")
            images = images.permute(0, 3, 1, 2).to(scale.dtype) * scale + shift
        return super().forward(images)

    def example(self, image: Input, count: int) -> Tensor:
        """Return images of the right shape and type."""
        if self.raw:
            shape = count, image.height, image.width, image.channels
            return torch.zeros(shape, dtype=torch.uint8)
        return torch.zeros(count, image.channels, image.height, image.width)


def _write_onnx(path: Path, network: Network, images: Any, shapes: Any, metadata: str) -> str:
    with _quiet():
        program = torch.onnx.export(
            network,
            images,
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props["resnet_spec"] = metadata
    # In one file: ONNX allows 2 GB, ten times the largest ResNet.
    program.save(path, external_data=False)
    return f"opset {program.model.opset_imports['']}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's log off the screen; it lists the ops of torchvision that it skips."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
