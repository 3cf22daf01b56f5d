"""Published weights by name, as `resnet50.tv2_in1k`: `NETWORK.TAG`, with timm's tags.

`tv_in1k` and `tv2_in1k` are torchvision's V1 and V2, `ms_in1k` Microsoft's on the Hugging Face hub,
`mindcv_in1k` and `mindvision_in1k` MindSpore's; the others are timm's. `finding` turns a name, a
file or a place on the hub into a file that is there, `adopting` its weights into those of a spec.
"""

from __future__ import annotations

from resnet_spec.errors import CheckpointError, did_you_mean, problem
from resnet_spec.weights.published.entry import Published
from resnet_spec.weights.published.hub_weights import HUB_WEIGHTS
from resnet_spec.weights.published.mindspore_weights import MINDSPORE_WEIGHTS
from resnet_spec.weights.published.timm_weights import TIMM_WEIGHTS
from resnet_spec.weights.published.torchvision_weights import TORCHVISION_WEIGHTS

__all__ = ["PUBLISHED", "Published", "published", "with_digest"]

PUBLISHED: dict[str, Published] = {
    entry.name: entry
    for entry in (*TORCHVISION_WEIGHTS, *TIMM_WEIGHTS, *HUB_WEIGHTS, *MINDSPORE_WEIGHTS)
}


def published(name: str) -> Published:
    """Return the weights called `name`. Raises CheckpointError with the nearest name."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    tags = [entry.partition(".")[2] for entry in PUBLISHED if entry.partition(".")[0] == name]
    if tags:
        rule = "is a network, and weights have a tag, too"
        raise CheckpointError(problem("pretrained", name, rule, f"{name}. with {', '.join(tags)}"))
    rule = "is neither published weights, a file, nor hf:OWNER/NAME"
    hint = did_you_mean(name, PUBLISHED) or "see: resnet-spec list --pretrained"
    raise CheckpointError(problem("pretrained", name, rule, hint))


def with_digest(sha256: str) -> Published | None:
    """Return the published weights whose file has this digest, 64 hexadecimal digits."""
    return next(
        (it for it in PUBLISHED.values() if it.sha256 and sha256.startswith(it.sha256)), None
    )
