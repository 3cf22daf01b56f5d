"""Faults in the backward pass, the running statistics and the optimiser."""

from __future__ import annotations

from dataclasses import replace

from changes import (
    at,
    labels_shifted,
    norms,
    one_step_early,
    one_step_late,
    recipe,
    without_noise,
)
from patches import (
    factors_detached,
    gradient_everywhere,
    gradient_halved,
    layer,
    rule,
    shortcut_detached,
    statistics_constant,
)
from planted import Fault

from resnet_spec.optimizers.equations import sgd
from resnet_spec.parity.localise.mistakes import bound, dampened, decoupled, rate_inside

TRAINING: dict[str, Fault] = {
    # --- backward ---
    "no_smoothing": Fault(
        "gradients", "plain", recipe(label_smoothing=0.0), "loss", ("label smoothing form",)
    ),
    "other_smoothing": Fault(
        "gradients", "bottleneck", recipe(label_smoothing=0.2), "loss", ("label smoothing form",)
    ),
    "labels_of_other_images": Fault("gradients", "groups", labels_shifted, "loss", ("labels",)),
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
    "gate_factors_detached": Fault(
        "gradients",
        "tiered_stem_squeeze",
        node="layer1.0.se",
        causes=("gradient missing",),
        patch=layer("layer1.0.se", factors_detached),
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
    "frozen_norm": Fault(
        "statistics", "zero_pad_end", at("layer1.0.bn1", decay=1.0), "layer1.0.bn1", ("statistics",)
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
        patch=rule(equation=bound(decoupled, sgd)),
        native=False,
    ),
    "rate_inside_the_velocity": Fault(
        "update",
        "plain",
        node="conv1.weight",
        causes=("learning rate inside the velocity",),
        patch=rule(equation=bound(rate_inside, sgd)),
        native=False,
    ),
    "dampening": Fault(
        "update",
        "plain",
        node="conv1.weight",
        causes=("dampening",),
        patch=rule(equation=bound(dampened, sgd)),
        native=False,
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
