"""MindCV's weights (tag `mindcv_in1k`) and those of the older mindvision (`mindvision_in1k`).

Addresses are those of MindCV 0.3 (mindcv/models/resnet.py and senet.py, `default_cfgs`) and of
mindvision/classification/utils/model_urls.py; accuracies those of MindCV's README files and
benchmark_results.md, measured on Ascend. MindCV's transforms resize with MindSpore's bilinear
filter, which is not Pillow's. mindvision publishes neither digests nor accuracies. MindCV's
ResNetV2 is none of the networks that a spec can say.
"""

from __future__ import annotations

from resnet_spec.data.views import View
from resnet_spec.weights.published.entry import Published

_MINDCV = "https://download.mindspore.cn/toolkits/mindcv"
_MINDVISION = "https://download.mindspore.cn/vision/classification"
_VIEW = View(256, 224, "bilinear")

_ROWS = [
    ("resnet18", "resnet/resnet18-1e65cd21.ckpt", None, None),
    ("resnet34", "resnet/resnet34-f297d27e.ckpt", None, None),
    ("resnet50", "resnet/resnet50-e0733ab8.ckpt", 76.69, 93.5),
    ("resnet101", "resnet/resnet101-689c5e77.ckpt", None, None),
    ("resnet152", "resnet/resnet152-beb689d8.ckpt", None, None),
    ("resnext50_32x4d", "resnext/resnext50_32x4d-af8aba16.ckpt", 78.53, 94.1),
    ("resnext101_32x4d", "resnext/resnext101_32x4d-3c1e9c51.ckpt", 79.83, 94.8),
    ("resnext101_64x4d", "resnext/resnext101_64x4d-8929255b.ckpt", 80.3, 94.82),
    ("resnext152_64x4d", "resnext/resnext152_64x4d-3aba275c.ckpt", 80.52, 95.0),
    ("seresnet18", "senet/seresnet18-7880643b.ckpt", 71.81, 90.49),
    ("seresnet34", "senet/seresnet34-8179d3c9.ckpt", None, None),
    ("seresnet50", "senet/seresnet50-ff9cd214.ckpt", None, None),
    ("seresnext26_32x4d", "senet/seresnext26_32x4d-5361f5b6.ckpt", None, None),
    ("seresnext50_32x4d", "senet/seresnext50_32x4d-fdc35aca.ckpt", None, None),
]
# Networks whose names are no presets, as a preset and what differs from it.
_OF_NO_PRESET = {
    "resnext152_64x4d": ("resnet152", ("groups=64", "width_per_group=4")),
    "seresnext26_32x4d": ("resnet26", ("groups=32", "width_per_group=4", "squeeze=0.0625")),
}

MINDSPORE_WEIGHTS = (
    *(
        Published(
            f"{network}.mindcv_in1k",
            f"{_MINDCV}/{file}",
            "mindcv",
            _VIEW,
            "MindCV's README",
            top1,
            top5,
            license="apache-2.0",
            preset=preset,
            settings=settings,
        )
        for network, file, top1, top5 in _ROWS
        for preset, settings in [_OF_NO_PRESET.get(network, ("", ()))]
    ),
    *(
        Published(
            f"resnet{depth}.mindvision_in1k",
            f"{_MINDVISION}/resnet{depth}_224.ckpt",
            "mindvision",
            _VIEW,
            "mindvision",
        )
        for depth in (18, 34, 50, 101, 152)
    ),
)
