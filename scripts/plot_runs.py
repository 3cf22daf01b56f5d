"""Draw the curves of finished runs into one PNG and one SVG.

python scripts/plot_runs.py demo_out/*/metrics.jsonl --out demo_out/curves
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from resnet_spec.errors import ResnetSpecError
from resnet_spec.metrics import read_metrics
from resnet_spec.plots import draw_curves


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metrics", type=Path, nargs="+", help="runs' metrics.jsonl files")
    parser.add_argument("--out", type=Path, required=True, help="file name without an ending")
    parser.add_argument("--title", default="")
    args = parser.parse_args()
    try:
        runs = {path.parent.name: read_metrics(path.parent) for path in args.metrics}
        draw_curves(runs, args.out, args.title)
    except ResnetSpecError as error:
        print(f"plot_runs: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
