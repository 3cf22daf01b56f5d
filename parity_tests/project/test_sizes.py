"""Files stay small: a test file is read in one sitting, and so is a source."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST_TEST = 400
LONGEST_SOURCE = 300
LONGER = {
    "backends/resnet_spec_flax/modules.py": "one class for each op",
    "backends/resnet_spec_mindspore/modules.py": "one class for each op",
    "backends/resnet_spec_numpy/layers.py": "one class for each op, forward and backward",
    "backends/resnet_spec_torch/modules.py": "one class for each op",
    "resnet_spec/cli/hints.py": "a table of words that people try, a line or two each",
    "resnet_spec/data/cifar.py": "four forms of one dataset",
    "resnet_spec/ops.py": "every class of ops",
    "resnet_spec/showing/drift.py": "one figure",
    "resnet_spec/weights/files/torch_names.py": "a table of names in torch's pickles",
    "resnet_spec/weights/published/timm_weights.py": "a table of published weights",
}
"""Sources above the limit, each with a reason; a stale line fails."""


def longer_than(limit: int, *folders: str) -> set[str]:
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(paths) > 20
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    return {path.relative_to(ROOT).as_posix() for path, n in lines.items() if n > limit}


def test_no_test_file_is_long() -> None:
    assert longer_than(LONGEST_TEST, "parity_tests") == set()


def test_no_source_is_long_without_a_reason() -> None:
    assert longer_than(LONGEST_SOURCE, "resnet_spec", "backends") == LONGER.keys()


def test_a_long_file_is_found() -> None:
    assert "parity_tests/project/test_sizes.py" in longer_than(10, "parity_tests")
