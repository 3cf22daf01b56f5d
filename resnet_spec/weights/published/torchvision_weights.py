"""torchvision's weights of its ResNets, ResNeXts and wide ResNets, with timm's tags.

`tv_in1k` is the enumeration's IMAGENET1K_V1, `tv2_in1k` its IMAGENET1K_V2. Addresses, views and
accuracies are those of torchvision 0.28 (torchvision/models/resnet.py, `Weights.meta`); the license
of the weights is as timm says.
"""

from __future__ import annotations

from resnet_spec.data.views import View
from resnet_spec.weights.published.entry import Published

_BASE = "https://download.pytorch.org/models"
_V1 = View(256, 224, "bilinear")
_V2 = View(232, 224, "bilinear")

_ROWS = [
    ("resnet18.tv_in1k", "resnet18-f37072fd.pth", _V1, 69.758, 89.078),
    ("resnet34.tv_in1k", "resnet34-b627a593.pth", _V1, 73.314, 91.42),
    ("resnet50.tv_in1k", "resnet50-0676ba61.pth", _V1, 76.13, 92.862),
    ("resnet50.tv2_in1k", "resnet50-11ad3fa6.pth", _V2, 80.858, 95.434),
    ("resnet101.tv_in1k", "resnet101-63fe2227.pth", _V1, 77.374, 93.546),
    ("resnet101.tv2_in1k", "resnet101-cd907fc2.pth", _V2, 81.886, 95.78),
    ("resnet152.tv_in1k", "resnet152-394f9c45.pth", _V1, 78.312, 94.046),
    ("resnet152.tv2_in1k", "resnet152-f82ba261.pth", _V2, 82.284, 96.002),
    ("resnext50_32x4d.tv_in1k", "resnext50_32x4d-7cdf4587.pth", _V1, 77.618, 93.698),
    ("resnext50_32x4d.tv2_in1k", "resnext50_32x4d-1a0047aa.pth", _V2, 81.198, 95.34),
    ("resnext101_32x8d.tv_in1k", "resnext101_32x8d-8ba56ff5.pth", _V1, 79.312, 94.526),
    ("resnext101_32x8d.tv2_in1k", "resnext101_32x8d-110c445d.pth", _V2, 82.834, 96.228),
    # Its only ones, of the newer recipe.
    ("resnext101_64x4d.tv_in1k", "resnext101_64x4d-173b62eb.pth", _V2, 83.246, 96.454),
    ("wide_resnet50_2.tv_in1k", "wide_resnet50_2-95faca4d.pth", _V1, 78.468, 94.086),
    ("wide_resnet50_2.tv2_in1k", "wide_resnet50_2-9ba9bcbe.pth", _V2, 81.602, 95.758),
    ("wide_resnet101_2.tv_in1k", "wide_resnet101_2-32ee1156.pth", _V1, 78.848, 94.284),
    ("wide_resnet101_2.tv2_in1k", "wide_resnet101_2-d733dc28.pth", _V2, 82.51, 96.02),
]

TORCHVISION_WEIGHTS = tuple(
    Published(
        name,
        f"{_BASE}/{file}",
        "torchvision",
        view,
        "torchvision Weights.meta",
        top1,
        top5,
        license="bsd-3-clause",
    )
    for name, file, view, top1, top5 in _ROWS
)
