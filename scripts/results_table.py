"""Print summaries of runs as a Markdown table.

python scripts/results_table.py runs/*/summary.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from resnet_spec.weights.checkpoint import checkpoint_header
from resnet_spec.weights.last_two import LAST

COLUMNS = (
    "backend",
    "version",
    "seed",
    "steps",
    "accuracy",
    "loss",
    "images/s",
    "first step, s",
    "all, s",
)


def row(path: Path) -> list[str]:
    summary = json.loads(path.read_text())
    return [
        summary["backend"],
        summary["environment"]["version"],
        str(seed(path.parent)),
        str(summary["steps"]),
        f"{summary['final_accuracy']:.4f}",
        f"{summary['final_test_loss']:.4f}",
        f"{summary['images_per_second']:.0f}",
        f"{summary['first_step_s']:.1f}",
        f"{summary['wall_s']:.0f}",
    ]


def seed(run: Path) -> int:
    """Return the seed, which a comparison notes in cell.json, and train in the checkpoint."""
    cell = run / "cell.json"
    if cell.is_file():
        return json.loads(cell.read_text())["seed"]
    header = checkpoint_header(run / LAST)
    if header is None:
        raise SystemExit(f"{run}: has neither cell.json nor {LAST}")
    return header["recipe"]["seed"]


def main() -> int:
    rows = [list(COLUMNS), ["---"] * len(COLUMNS), *(row(Path(path)) for path in sys.argv[1:])]
    for cells in rows:
        print(f"| {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
