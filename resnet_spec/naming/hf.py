"""The ResNet of the transformers library: `resnet.encoder.stages.0.layers.0.layer.0.convolution`.

Source: transformers/models/resnet/modeling_resnet.py.
"""

from __future__ import annotations

from resnet_spec.naming.names import Paths, depth_of, renamed
from resnet_spec.plan import Plan

_EMBEDDER = "resnet.embedder.embedder"
_ENDS = {
    "conv1": f"{_EMBEDDER}.convolution",
    "bn1": f"{_EMBEDDER}.normalization",
    "act1": f"{_EMBEDDER}.activation",
    "maxpool": "resnet.embedder.pooler",
    "global_pool": "resnet.pooler",
    "fc": "classifier.1",
}
_KINDS = {"conv": "convolution", "bn": "normalization", "act": "activation"}


def hf(plan: Plan) -> Paths:
    """Return the paths; a block's convolutions are counted from 0, as its stages are."""

    def rename(parts: list[str]) -> str | None:
        match parts:
            case [end] if end in _ENDS:
                return _ENDS[end]
            case [stage, index, "downsample", "0" | "1" as place] if stage.startswith("layer"):
                kind = "convolution" if place == "0" else "normalization"
                return f"{_block(stage, index)}.shortcut.{kind}"
            case [stage, index, key] if stage.startswith("layer") and key[:-1] in _KINDS:
                number, kind = int(key[-1]), _KINDS[key[:-1]]
                if kind == "activation" and number == depth_of(plan, f"{stage}.{index}"):
                    return f"{_block(stage, index)}.activation"
                return f"{_block(stage, index)}.layer.{number - 1}.{kind}"
            case _:
                return None

    return renamed(plan, rename)


def _block(stage: str, index: str) -> str:
    return f"resnet.encoder.stages.{int(stage.removeprefix('layer')) - 1}.layers.{index}"
