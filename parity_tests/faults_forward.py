"""Faults in the forward pass: inputs, weights, windows, norms, activations, shortcuts, head."""

from __future__ import annotations

import numpy as np
from changes import (
    at,
    change_ops,
    channels_reversed,
    images_mirrored,
    images_not_centred,
    lowered_from,
    no_relu_in_se,
    norms,
    one_element,
    one_pixel,
    relu_after,
    shift_windows,
    weights,
    without,
    without_noise,
)
from patches import (
    batch_statistics_always,
    body_alone,
    layer,
    leaking,
    not_gated,
    over_width_alone,
    padded_with_zeros,
)
from planted import Fault

_SAME = ("padding offset by one pixel", "SAME against explicit")
FORWARD: dict[str, Fault] = {
    # --- input and weights ---
    "perturbed_input": Fault("activations", "plain", one_pixel, "conv1"),
    "input_not_normalised": Fault(
        "logits",
        "imagenet_stem",
        images_not_centred,
        "conv1",
        ("normalisation",),
    ),
    "channels_reversed": Fault(
        "logits", "plain", channels_reversed, "conv1", ("swapped channels",)
    ),
    "images_mirrored": Fault("logits", "bottleneck", images_mirrored, "conv1", ("swapped axes",)),
    "perturbed_weight": Fault(
        "logits", "bottleneck", weights("conv1.weight", one_element), "conv1", ("changed weight",)
    ),
    "perturbed_scale": Fault(
        "gradients",
        "pre_activation_everything",
        weights("stages.1.blocks.0.norm1.weight", one_element),
        "stages.1.blocks.0.norm1",
        ("changed weight",),
    ),
    "transposed_kernel": Fault(
        "logits",
        "plain",
        weights("layer1.0.conv1.weight", lambda w: w.transpose(0, 1, 3, 2)),
        "layer1.0.conv1",
        ("transposed kernel",),
    ),
    "flipped_kernel": Fault(
        "logits",
        "dilation",
        weights("layer2.1.conv2.weight", lambda w: w[:, :, ::-1, ::-1]),
        "layer2.1.conv2",
        ("transposed kernel",),
    ),
    "transposed_product": Fault(
        "logits",
        "projection_all",
        weights("layer1.0.conv1.weight", lambda w: w.transpose(1, 0, 2, 3)),
        "layer1.0.conv1",
        ("transposed kernel",),
    ),
    "swapped_groups": Fault(
        "logits",
        "groups",
        weights("layer1.0.conv2.weight", lambda w: np.roll(w, 4, axis=0)),
        "layer1.0.conv2",
        ("swapped channels",),
    ),
    "swapped_classes": Fault(
        "logits", "bottleneck", weights("fc.weight", lambda w: w[::-1]), "fc", ("swapped channels",)
    ),
    # --- windows ---
    "flipped_pad": Fault("logits", "same_padding", shift_windows, "conv1", _SAME),
    "explicit_for_same": Fault(
        "logits", "same_padding", lowered_from(padding="explicit"), "conv1", _SAME
    ),
    "same_for_explicit": Fault(
        "logits", "imagenet_stem", lowered_from(padding="same"), "conv1", _SAME
    ),
    "padding_of_one_deep_conv": Fault(
        "logits",
        "plain",
        at("layer2.0.conv1", pad=(0, 2, 1, 1)),
        "layer2.0.conv1",
        ("padding offset by one pixel", "SAME against explicit"),
    ),
    "padding_to_the_left": Fault(
        "logits",
        "bottleneck",
        at("layer1.0.conv2", pad=(1, 1, 2, 0)),
        "layer1.0.conv2",
        ("padding offset by one pixel",),
    ),
    "max_pool_of_zeros": Fault(
        "logits",
        "pre_activation_bottleneck",
        node="stem.pool",
        causes=("max-pool padded with zeros",),
        patch=layer("stem.pool", padded_with_zeros),
    ),
    "stride_on_the_wrong_conv": Fault(
        "logits",
        "stride_on_1x1",
        lowered_from(stride_position="3x3"),
        "layer2.0.conv1",
        ("stride on the wrong convolution",),
    ),
    "stride_on_the_other_conv": Fault(
        "logits",
        "bottleneck",
        lowered_from(stride_position="1x1"),
        "layer2.0.conv1",
        ("stride on the wrong convolution",),
    ),
    # --- norms, activations, shortcuts, head ---
    "eps": Fault("logits", "bottleneck", norms(eps=1e-5), "bn1", ("eps",)),
    "eps_of_one_deep_norm": Fault(
        "logits",
        "pre_activation_bottleneck",
        at("stages.1.blocks.0.norm2", eps=1e-2),
        "stages.1.blocks.0.norm2",
        ("eps",),
    ),
    "eps_in_training": Fault("train_logits", "groups", norms(eps=1e-3), "bn1", ("eps",)),
    "missing_relu": Fault(
        "logits", "plain", without("layer1.0.act1"), "layer1.0.act1", ("ReLU missing",)
    ),
    "missing_relu_at_the_end": Fault(
        "logits", "pre_activation_bottleneck", without("act"), "act", ("ReLU missing",)
    ),
    "missing_relu_in_se": Fault(
        "logits",
        "zero_init",
        lambda setup: change_ops(setup, no_relu_in_se),
        "layer1.0.se.act",
        ("ReLU missing",),
    ),
    "missing_relu_in_training": Fault(
        "train_logits", "noise", without("layer2.0.act2"), "layer2.0.act2", ("ReLU missing",)
    ),
    "extra_relu": Fault(
        "logits",
        "bottleneck",
        relu_after("layer1.0.bn3"),
        "layer1.0.add",
        ("ReLU extra",),
    ),
    "extra_relu_before_a_conv": Fault(
        "logits",
        "pre_activation_bottleneck",
        relu_after("stem.conv"),
        "stem.pool",
        ("ReLU extra",),
    ),
    "leaky_relu": Fault(
        "logits",
        "dilation",
        node="layer2.0.act1",
        causes=("activation",),
        patch=layer("layer2.0.act1", leaking),
    ),
    "batch_statistics_in_evaluation": Fault(
        "logits",
        "bottleneck",
        node="layer1.0.bn2",
        causes=("statistics",),
        patch=layer("layer1.0.bn2", batch_statistics_always),
    ),
    "gate_not_applied": Fault(
        "logits",
        "tiered_stem_squeeze",
        node="layer1.0.se",
        causes=("gate missing",),
        patch=layer("layer1.0.se", not_gated),
    ),
    "shortcut_missing": Fault(
        "logits",
        "imagenet_stem",
        node="layer1.1.add",
        causes=("shortcut missing",),
        patch=layer("layer1.1.add", body_alone),
    ),
    "dilation_left_out": Fault(
        "logits",
        "dilation",
        at("layer2.1.conv1", dilation=1, pad=(1, 1, 1, 1)),
        "layer2.1.conv1",
        ("dilation",),
    ),
    "zero_channels_at_the_end": Fault(
        "logits",
        "zero_pad_both",
        lowered_from(zero_pad_at="end"),
        "layer2.0.downsample",
        ("zero channels elsewhere",),
    ),
    "head_over_one_axis": Fault(
        "logits",
        "bottleneck",
        node="global_pool",
        causes=("head averaged over the wrong axes",),
        patch=layer("global_pool", over_width_alone),
    ),
    "noise_left_out": Fault(
        "train_logits", "noise", without_noise, "layer1.1.drop_path", ("noise",)
    ),
}
