"""The network as an exported model, for peers that run one: made in a process that then ends.

    python -m resnet_spec.benchmarking.exported FORMAT FILE

It reads the question as JSON from its standard input. The exporter's framework is thus in no
contestant's start, memory or threads.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from resnet_spec.benchmarking.asked import Asked
from resnet_spec.benchmarking.process import FailedError
from resnet_spec.errors import ResnetSpecError
from resnet_spec.files.json_text import json_text
from resnet_spec.loader import export_formats
from resnet_spec.running.child_processes import command_of, environment_with

_SAYS = "export: "


@contextmanager
def exported(asked: Asked, format: str) -> Generator[Path]:
    """Give the file of the network in `format`, with its initial weights, until the block ends.

    It takes float32 images that are normalised, as many as the question's batch, and has been held
    against the reference. Raises FailedError.
    """
    if asked.precision != "float32":
        raise FailedError(f"precision = {asked.precision}: {format} is written in float32")
    with tempfile.TemporaryDirectory(prefix="resnet-spec-bench-") as folder:
        path = Path(folder) / f"network{export_formats()[format].ending}"
        done = subprocess.run(
            command_of("resnet_spec.benchmarking.exported", [format, str(path)]),
            input=json_text(asked.to_dict()),
            capture_output=True,
            env=environment_with(asked.threads),
            text=True,
            start_new_session=True,
        )
        if done.returncode != 0:
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            own = [line.removeprefix(_SAYS) for line in said if line.startswith(_SAYS)]
            raise FailedError((own or said or ["no word"])[-1])
        yield path


def main(format: str, file: str) -> int:
    """Write the file; return the exit status."""
    from resnet_spec.exporting import export
    from resnet_spec.planning.initial_weights import initial_state

    asked = Asked.from_dict(json.load(sys.stdin))
    state = initial_state(asked.plan, seed=0)
    try:
        done = export(asked.spec, state, format, Path(file), batch=asked.batch)
    except ResnetSpecError as error:
        print(f"{_SAYS}{'; '.join(error.problems)}", file=sys.stderr)
        return 1
    if not done.is_kept:
        print(f"{_SAYS}{done.line}", file=sys.stderr)
    return int(not done.is_kept)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
