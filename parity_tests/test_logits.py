"""Logits and the output of every node, in evaluation and in training mode."""

from __future__ import annotations

from pairs import Pair


def test_evaluation(pair: Pair) -> None:
    assert pair.got.logits.shape == (6, pair.expected.setup.plan.classes)
    pair.check("logits")


def test_activations(pair: Pair) -> None:
    plan = pair.expected.setup.plan
    assert tuple(pair.got.evaluated) == tuple(pair.got.activations) == plan.observed
    pair.check("activations")


def test_training(pair: Pair) -> None:
    pair.check("train_logits")
