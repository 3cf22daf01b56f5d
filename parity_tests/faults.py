"""The catalogue of planted faults: what is wrong, what must show it, where, and what it is called.

Most change the setup that one side is given, and suit every backend; the others are written in the
framework's own code. A cause is a set where two of them are the same arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from changes import (
    Change,
    at,
    change_ops,
    channels_reversed,
    images_not_centred,
    lowered_from,
    no_relu_in_se,
    norms,
    one_element,
    one_pixel,
    one_step_early,
    one_step_late,
    one_ulp,
    recipe,
    relu_after,
    renamed,
    shift_windows,
    weights,
    without,
    without_noise,
)
from patches import (
    Patch,
    PatchedSide,
    gradient_everywhere,
    gradient_halved,
    layer,
    over_width_alone,
    padded_with_zeros,
    rule,
    shortcut_detached,
    statistics_constant,
)

from resnet_spec.parity.setup import Setup
from resnet_spec.parity.side import Side


@dataclass(frozen=True)
class Fault:
    """A change to the setup of `case`, or a patch of its session, which `level` must show.

    node: the one that the localiser must name; "" where there is no node to name (names, shapes).
    causes: one of which it must name; () where no cause of the catalogue explains it.
    """

    level: str
    case: str
    change: Change = field(default=lambda setup: setup)
    node: str = ""
    causes: tuple[str, ...] = ()
    patch: Patch | None = None

    def plant(self, backend: str, setup: Setup) -> Side:
        """Return `backend`'s side of `setup` with the fault in it."""
        if self.patch is None:
            return Side(backend, self.change(setup))
        return PatchedSide(backend, self.change(setup), self.patch)

    def suits(self, backend: str) -> bool:
        """Whether it can be planted there: the reference has no native layers to replace."""
        return self.patch is None or backend != "numpy"


_SAME = ("padding offset by one pixel", "SAME against explicit")
_SMALLER = [{"width": 8, "blocks": 1}, {"width": 12, "blocks": 1, "stride": 2}]

FAULTS: dict[str, Fault] = {
    # --- names, shapes, counts, first weights ---
    "renamed_tensor": Fault("names", "bottleneck", renamed),
    "expansion": Fault("shapes", "projection_all", lowered_from(expansion=3), "layer1.0.conv3"),
    "missing_block": Fault(
        "counts", "imagenet_stem", lowered_from(stages=_SMALLER), "layer1.1.add", ("body missing",)
    ),
    "nudged_start": Fault("init", "plain", weights("conv1.weight", one_ulp)),
    "last_norm_starts_at_one": Fault(
        "init",
        "zero_init",
        weights("layer2.0.bn3.weight", np.ones_like),
        "layer2.0.bn3",
        ("last-norm zero init",),
    ),
    "last_norm_starts_at_zero": Fault(
        "init",
        "bottleneck",
        weights("layer1.0.bn3.weight", np.zeros_like),
        "layer1.0.bn3",
        ("last-norm zero init",),
    ),
    # --- forward: input and weights ---
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
    # --- forward: windows ---
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
    # --- forward: norms, activations, shortcuts, head ---
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
    # --- backward ---
    "no_smoothing": Fault(
        "gradients", "plain", recipe(label_smoothing=0.0), "loss", ("label smoothing form",)
    ),
    "other_smoothing": Fault(
        "gradients", "bottleneck", recipe(label_smoothing=0.2), "loss", ("label smoothing form",)
    ),
    "relu_gradient_everywhere": Fault(
        "gradients",
        "plain",
        node="layer1.0.act2",
        causes=("ReLU missing",),
        patch=layer("layer1.0.act2", gradient_everywhere),
    ),
    "batch_statistics_constant": Fault(
        "gradients",
        "bottleneck",
        node="layer2.0.bn2",
        causes=("statistics held constant",),
        patch=layer("layer2.0.bn2", statistics_constant),
    ),
    "shortcut_detached": Fault(
        "gradients",
        "imagenet_stem",
        node="layer1.1.add",
        causes=("gradient missing",),
        patch=layer("layer1.1.add", shortcut_detached),
    ),
    "gate_gradient_halved": Fault(
        "gradients",
        "tiered_stem_squeeze",
        node="layer2.0.se.gate",
        causes=("gradient scaled",),
        patch=layer("layer2.0.se.gate", gradient_halved),
    ),
    # --- statistics ---
    "biased_variance": Fault(
        "statistics", "plain", norms(variance="biased"), "bn1", ("biased variance",)
    ),
    "unbiased_variance": Fault(
        "statistics", "stride_on_1x1", norms(variance="unbiased"), "bn1", ("biased variance",)
    ),
    "biased_variance_of_one_norm": Fault(
        "statistics",
        "imagenet_stem",
        at("layer2.0.downsample.1", variance="biased"),
        "layer2.0.downsample.1",
        ("biased variance",),
    ),
    "inverted_decay": Fault("statistics", "plain", norms(decay=0.1), "bn1", ("momentum inverted",)),
    "decay_of_one_norm": Fault(
        "statistics",
        "bottleneck",
        at("layer2.0.bn3", decay=0.9),
        "layer2.0.bn3",
        ("momentum",),
    ),
    "statistics_of_one_step": Fault(
        "statistics", "noise", without_noise, "layer1.1.drop_path", ("noise",)
    ),
    # --- optimiser ---
    "decay_on_norms": Fault(
        "update",
        "plain",
        recipe(optimizer={"decay_norms": True}),
        "bn1.weight",
        ("decayed tensors",),
    ),
    "no_decay_on_biases": Fault(
        "update",
        "plain",
        recipe(optimizer={"decay_biases": False}),
        "fc.bias",
        ("decayed tensors",),
    ),
    "other_decay": Fault(
        "trajectory",
        "plain",
        recipe(optimizer={"weight_decay": 0.01}),
        "conv1.weight",
        ("weight decay",),
    ),
    "decoupled_decay": Fault(
        "update",
        "plain",
        node="conv1.weight",
        causes=("coupled against decoupled decay",),
        patch=rule(decoupled=True),
    ),
    "rate_inside_the_velocity": Fault(
        "update",
        "plain",
        node="conv1.weight",
        causes=("learning rate inside the velocity",),
        patch=rule(rate_inside=True),
    ),
    "dampening": Fault(
        "update", "plain", node="conv1.weight", causes=("dampening",), patch=rule(dampened=True)
    ),
    "nesterov": Fault(
        "update",
        "plain",
        recipe(optimizer={"nesterov": True}),
        "conv1.weight",
        ("Nesterov form",),
    ),
    "momentum": Fault(
        "trajectory",
        "plain",
        recipe(optimizer={"momentum": 0.89}),
        "conv1.weight",
        ("momentum",),
    ),
    "inverted_momentum": Fault(
        "trajectory",
        "plain",
        recipe(optimizer={"momentum": 0.1}),
        "conv1.weight",
        ("momentum inverted",),
    ),
    "rate": Fault(
        "update",
        "plain",
        lambda setup: replace(setup, rates=setup.rates * 1.01),
        "conv1.weight",
        ("learning rate",),
    ),
    "rate_one_step_late": Fault(
        "trajectory", "plain", one_step_late, "conv1.weight", ("schedule off by one step",)
    ),
    "rate_one_step_early": Fault(
        "trajectory", "plain", one_step_early, "conv1.weight", ("schedule off by one step",)
    ),
}
