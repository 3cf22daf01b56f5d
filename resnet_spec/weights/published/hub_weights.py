"""Microsoft's ResNets on the Hugging Face hub, for the transformers library (tag `ms_in1k`).

They were converted from timm's weights of 2022 by convert_resnet_to_pytorch.py of transformers,
which gives them the images of facebook/convnext-base-224-22k-1k: 224 pixels out of 256, bicubic.
Neither digests nor accuracies are published with them.
"""

from __future__ import annotations

from resnet_spec.data.views import View
from resnet_spec.weights.published.entry import Published

HUB_WEIGHTS = tuple(
    Published(
        f"resnet{depth}.ms_in1k",
        f"hf:microsoft/resnet-{depth}/model.safetensors",
        "hf",
        View(256, 224, "bicubic"),
        "transformers convert_resnet_to_pytorch.py",
        license="apache-2.0",
    )
    for depth in (18, 26, 34, 50, 101, 152)
)
