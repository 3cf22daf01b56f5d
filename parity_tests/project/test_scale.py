"""The page on many accelerators says what the script reckons."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from resnet_spec.describing.spec_files import load_spec
from resnet_spec.planning.lowering import lower

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import scale  # pyright: ignore[reportMissingImports]  # noqa: E402


def test_the_page_has_the_script_s_tables() -> None:
    lines = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8").splitlines()
    tables = list(scale.page(lower(load_spec("resnet50"))))
    start = lines.index(tables[0])
    assert lines[start : start + len(tables)] == tables


def test_what_is_sent_is_counted_in_the_plan() -> None:
    volume = scale.volume_of(lower(load_spec("resnet50")))
    assert volume == (4 * 25_557_032, 53, 26_560)


def test_a_machine_sends_nothing_to_others() -> None:
    volume = scale.volume_of(lower(load_spec("resnet50")))
    one, eight, two = (scale.step(volume, devices, 32) for devices in (1, 8, 16))
    assert one.gradients == scale.MACHINE.start_inside
    inside = 2 * 7 / 8 * volume.gradients / scale.MACHINE.inside
    assert eight.gradients == pytest.approx(inside + scale.MACHINE.start_inside)
    between = volume.gradients / 8 / scale.MACHINE.between + scale.MACHINE.start_between
    assert two.gradients == pytest.approx(eight.gradients + between)
