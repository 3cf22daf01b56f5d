#!/usr/bin/env python
"""Run small inputs from public bug reports and judge what comes out.

    scripts/check_cases.py ../shared/cases            # all of them
    scripts/check_cases.py ../shared/cases neg-bit    # some

A case is a folder with `run.sh`, which starts the command named by RS in a fresh folder and prints
what it says, and a `README.md` line with what must happen; `EXPECTED` is that line as patterns.
Exit status 1 where a case comes out otherwise, or nothing says how it must.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Check = Callable[[str], str | None]
"""What is wrong with an output, None where nothing is."""


def says(pattern: str) -> Check:
    return lambda text: None if re.search(pattern, text, re.M) else f"lacks /{pattern}/"


def never(pattern: str) -> Check:
    def check(text: str) -> str | None:
        found = re.search(pattern, text, re.M)
        return f"has {found[0]!r}" if found else None

    return check


def each(start: str, pattern: str, count: int) -> Check:
    """Check that `count` lines begin with `start`, and that `pattern` is in every one."""

    def check(text: str) -> str | None:
        lines = [line for line in text.splitlines() if re.match(start, line)]
        bad = [line for line in lines if not re.search(pattern, line)]
        if len(lines) != count:
            return f"has {len(lines)} lines /{start}/, not {count}"
        return f"line without /{pattern}/: {bad[0]}" if bad else None

    return check


_ERROR = "^resnet-spec: error: "
_WHOLE = "checkpoint|torch"  # `inspect` begins with the file and its kind.

EXPECTED: dict[str, tuple[Check, ...]] = {
    "assumptions-not-said": (
        says(r"^note: assumed: .*--set .*stem\.pool = false \(.*stem\.pool=true\)"),
        lambda text: None if text.count("stem.pool=true") >= 2 else "said by one command only",
    ),
    "bom-spec": (never(_ERROR), each("(bom|u16): 1,000 classes", "", 2)),
    "class-names-ignored": (
        says("^best of the test images 1.0000"),
        says(f"{_ERROR}.*cat.*tabby"),
        never("accuracy 0.0000"),
    ),
    "disk-full": (
        each(r"x.*: ", r"error: .*(File too large|no space)", 4),
        says("^0$"),
    ),
    "ema-unreachable": (
        says(r"--part"),
        lambda text: "an option is not there" if re.search("^0$", text, re.M) else None,
    ),
    "headless": (never(_ERROR), each("best of the test images", "left in run_", 2)),
    "ignored-images": (
        says(r"resnet10 on bmp \(16 train"),
        says(r"resnet10 on nested \(24 train"),
    ),
    "jax-platforms": (says(f"{_ERROR}.*JAX_PLATFORMS.*cuda"), says("^flax .*")),
    "nan-is-best": (
        never("best of the test images 0.8824"),
        never("NaN"),
        never("status 0"),
        says("not finite|no numbers|NaN|not a number"),
    ),
    "neg-bit": (
        says("torch.load right: True"),
        lambda text: (
            None
            if "resnet-spec right: True  turned: False" in text
            or re.search("refused|negative", text)
            else "the sign is turned"
        ),
    ),
    "npz-slashes": (each("file ", "npz", 2), never(_ERROR)),
    "option-hints": (
        says(r"--epochs.*--set epochs=5"),
        says(r"--lr.*--set schedule\.rate=0\.1"),
        says(r"--batch-size.*--set batch=32"),
        says(r"--num-classes.*classes"),
        says(r"--seed.*--set seed=1"),
        says(r"--pretrained-weights.*--pretrained x"),
        says(r"--workers"),
        never("did you mean '--(resume|help|input-size)'"),
    ),
    "parity-hints": (
        says(f"{_ERROR}.*--classes 10"),
        never("use names"),
        # The second command's lines are counted.
        lambda text: (
            None
            if (found := re.findall(r"^(\d+)$", text, re.M)) and int(found[-1]) <= 40
            else "a line for each tensor"
        ),
    ),
    "parquet-first-grey": (says("channels 3 "),),
    "parquet-imagenet-layout": (says(r"^d 12 train 12 test.*test labels \[0, 1, 2, 0, 1, 2\]"),),
    "parquet-shards": (
        says("^miss DataError .*00001-of-00002"),
        never("^(small|dup) 24 train"),
        each("small ", r"DataError|12 train", 1),
        each("dup ", r"DataError|12 train", 1),
    ),
    "resume-changed-dataset": (
        says(f"{_ERROR}.*800 -> 200 train images"),
        says(f"{_ERROR}.*800 -> 80 train images"),
        says("^status 2$"),
        never("epoch 8/8"),
    ),
    "torn-metrics": (never(_ERROR), says("^status 0$"), says("epoch 8/8")),
    "two-runs-one-folder": (
        says(f"{_ERROR}.*in use"),
        each(r'\{"epoch": 1', "", 1),
        each(r'\{"epoch": 4', "", 1),
    ),
    "unicode-tracebacks": (
        never("(Encode|Decode|Type|Value)Error|Invoked with"),
        each("env ", ": ", 6),
    ),
    "wrapper-names": (each(r"\w+\.pth: ", rf": file .*({_WHOLE})|--part|prefix", 20),),
}


_MOST_SECONDS = 600


class Outcome(NamedTuple):
    case: str
    seconds: float
    problems: list[str]
    output: str


def run(case: Path, command: Path) -> Outcome:
    begun = time.perf_counter()
    # A session of its own, so that what a case started in the background ends with it.
    with subprocess.Popen(
        ["bash", str(case / "run.sh")],
        env={**os.environ, "RS": str(command)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            text, late = process.communicate(timeout=_MOST_SECONDS)[0], []
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            text, late = process.communicate()[0], [f"did not end in {_MOST_SECONDS} s"]
    checks = EXPECTED.get(case.name)
    problems = ["nothing says what must come out", *late] if checks is None else late
    checks = (*(checks or ()), never("Traceback|AssertionError"))
    problems += [found for check in checks if (found := check(text)) is not None]
    return Outcome(case.name, time.perf_counter() - begun, problems, text)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run small inputs and judge what comes out.")
    parser.add_argument("folder", type=Path, help="the folder with a folder per case")
    parser.add_argument("cases", nargs="*", help="default: all")
    parser.add_argument(
        "--command",
        type=Path,
        default=Path(sys.executable).with_name("resnet-spec"),
        help="default: the one beside this Python",
    )
    args = parser.parse_args()
    known = sorted(path.parent.name for path in args.folder.glob("*/run.sh"))
    lacking = set(args.cases) - set(known)
    if lacking or not known:
        print(f"{args.folder}: has no case {', '.join(sorted(lacking)) or 'at all'}")
        return 2
    failed = 0
    for name in args.cases or known:
        it = run(args.folder / name, args.command)
        failed += bool(it.problems)
        print(f"{'FAILED' if it.problems else 'ok':<7} {it.case}  ({it.seconds:.0f} s)", flush=True)
        if it.problems:
            for line in it.problems:
                print(f"        {line}")
            print("\n".join(f"      | {line}" for line in it.output.splitlines()[-30:]))
    number = len(args.cases or known)
    print(f"{number - failed} of {number} cases come out as they must")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
