"""The recipes that have names, as data, each with its source and what was published of it.

Accuracies are of ImageNet's validation images by ResNet-50 unless said otherwise. What of a source
is not here, or is otherwise, is said in docs/training.md.
"""

from __future__ import annotations

from resnet_spec.describing.from_text import Fields

_CROPS: Fields = {"random_resized_crop": True, "flip": True}
# timm's LAMB brings the gradient's norm to 1, and its decay leaves out norms and biases.
_LAMB: Fields = {"kind": "lamb", "decay_norms": False, "decay_biases": False, "clip_norm": 1.0}
# timm's cosine changes with each epoch and counts from the first, warm-up included.
_TIMM: Fields = {
    "kind": "cosine",
    "floor": 1e-6,
    "warmup": 5.0,
    "warmup_start": 1e-4,
    "every": "epoch",
    "counts_from": "start",
}


def _rand(magnitude: int) -> Fields:
    """timm's rand-m{magnitude}-mstd0.5-inc1, with CutMix."""
    policy = {"policy": "randaugment_increasing", "policy_magnitude": magnitude}
    return {**_CROPS, **policy, "cutmix": 1.0}


RECIPES: dict[str, Fields] = {
    # Small data in a minute: twelve epochs, one cycle, shifts of one pixel.
    "demo": {
        "epochs": 12,
        "batch": 64,
        "optimizer": {"nesterov": True, "weight_decay": 5e-4},
        "schedule": {"kind": "one_cycle", "rate": 0.1, "peak": 0.25},
        "augment": {"pad": 1},
    },
    # He et al. 2015, section 4.2.
    "cifar-paper": {
        "steps": 64_000,
        "batch": 128,
        "optimizer": {"weight_decay": 1e-4},
        "schedule": {
            "kind": "multi_step",
            "rate": 0.1,
            "unit": "steps",
            "milestones": [32_000, 48_000],
        },
        "augment": {"pad": 4, "flip": True},
    },
    # One cycle with Nesterov momentum, after Smith & Topin 2018 and Page 2018 (cifar10-fast).
    "cifar-fast": {
        "epochs": 10,
        "batch": 128,
        "optimizer": {"nesterov": True, "weight_decay": 5e-4},
        "schedule": {"kind": "one_cycle", "rate": 0.2, "peak": 0.25},
        "augment": {"pad": 4, "flip": True},
    },
    # Page 2018 (cifar10-fast, dawn.py): 94 % in 24 epochs, by a network of nine layers of its own.
    "cifar-94": {
        "epochs": 24,
        "batch": 512,
        "optimizer": {"nesterov": True, "weight_decay": 5e-4},
        "schedule": {"kind": "one_cycle", "rate": 0.4, "peak": 5 / 24},
        "augment": {"pad": 4, "flip": True},
    },
    # torchvision's reference recipe for its V1 weights (256 images a step): 76.130 %.
    "imagenet-90": {
        "epochs": 90,
        "batch": 256,
        "optimizer": {"weight_decay": 1e-4},
        "schedule": {"kind": "step", "rate": 0.1, "period": 30},
        "augment": {"random_resized_crop": True, "flip": True},
    },
    # MindSpore's ResNet-50 transfer tutorial (tutorials/source_en/cv/resnet50.md): a new head on
    # pretrained weights, momentum 0.9, cosine from 1e-3 to 1e-5; the best epoch is kept.
    "fine-tune": {
        "epochs": 5,
        "batch": 256,
        "optimizer": {"weight_decay": 0.0},
        "schedule": {"kind": "cosine", "rate": 1e-3, "floor": 1e-5},
        "augment": {"pad": 4, "flip": True},
    },
    # torchvision's recipe for its V2 weights (vision#3995): 80.858 %. With --input-size 176;
    # evaluated at 224 (resized to 232). 8 x 128 images.
    "torchvision-v2": {
        "epochs": 600,
        "batch": 1024,
        "optimizer": {"weight_decay": 2e-5, "decay_norms": False},
        "schedule": {
            "kind": "cosine",
            "rate": 0.5,
            "warmup": 5.0,
            "warmup_start": 0.005,
            "every": "epoch",
        },
        "label_smoothing": 0.1,
        "augment": {
            **_CROPS,
            "policy": "trivial",
            "erase": 0.1,
            "mixup": 0.2,
            "cutmix": 1.0,
            "repeats": 4,
        },
        "ema": {"decay": 1.0 - 2e-5 * 1024 * 32 / 600, "every": 32, "start": 5.0},
    },
    # Wightman et al. 2021, table 2, as timm trains: 80.4, 79.8 and 78.1 %. A1 and A2 with
    # stochastic_depth = 0.05 in the network, A3 with --input-size 160; evaluated at 224. Three
    # repeats do not divide 2,048 images: A1 and A2 have 2,040 a step.
    "timm-a1": {
        "epochs": 600,
        "batch": 2040,
        "optimizer": {**_LAMB, "weight_decay": 0.01},
        "schedule": {**_TIMM, "rate": 5e-3},
        "loss": {"kind": "binary_cross_entropy"},
        "label_smoothing": 0.1,
        "augment": {**_rand(7), "mixup": 0.2, "repeats": 3},
    },
    "timm-a2": {
        "epochs": 300,
        "batch": 2040,
        "optimizer": {**_LAMB, "weight_decay": 0.02},
        "schedule": {**_TIMM, "rate": 5e-3},
        "loss": {"kind": "binary_cross_entropy", "threshold": 0.2},
        "augment": {**_rand(7), "mixup": 0.1, "repeats": 3},
    },
    "timm-a3": {
        "epochs": 100,
        "batch": 2048,
        "optimizer": {**_LAMB, "weight_decay": 0.02},
        "schedule": {**_TIMM, "rate": 8e-3},
        "loss": {"kind": "binary_cross_entropy", "threshold": 0.2},
        "augment": {**_rand(6), "mixup": 0.1},
    },
    # He et al. 2019, table 6, ResNet-50-D with smoothing: 78.31 %, of 1,024 images a step.
    "bag-of-tricks": {
        "epochs": 120,
        "batch": 1024,
        "optimizer": {
            "nesterov": True,
            "weight_decay": 1e-4,
            "decay_norms": False,
            "decay_biases": False,
        },
        "schedule": {"kind": "cosine", "rate": 0.4, "warmup": 5.0},
        "label_smoothing": 0.1,
        "augment": {**_CROPS, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4},
    },
    # Bello et al. 2021, tables 1 and 9: ResNet-RS-50 at 160 pixels, 78.8 %. With squeeze, the deep
    # stem and dropout = 0.25 in the network.
    "resnet-rs": {
        "epochs": 350,
        "batch": 4096,
        "optimizer": {"weight_decay": 4e-5, "decay_norms": False, "decay_biases": False},
        "schedule": {"kind": "cosine", "rate": 1.6, "warmup": 5.0},
        "label_smoothing": 0.1,
        "augment": {**_CROPS, "policy": "randaugment", "policy_magnitude": 10},
        "ema": {"decay": 0.9999, "warmup": "count"},
    },
    # Zagoruyko & Komodakis 2016, section 3: WRN-28-10 on CIFAR-10, 96.0 %.
    "wrn": {
        "epochs": 200,
        "batch": 128,
        "optimizer": {"nesterov": True, "weight_decay": 5e-4},
        "schedule": {
            "kind": "multi_step",
            "rate": 0.1,
            "milestones": [60.0, 120.0, 160.0],
            "gamma": 0.2,
        },
        "augment": {"pad": 4, "flip": True},
    },
}
"""By name: what a file of the recipe would say."""
