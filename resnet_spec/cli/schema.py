"""Print the JSON Schema of a spec file, for editors and other programs."""

from __future__ import annotations

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments: it has none."""


def run(args: argparse.Namespace) -> int:
    """Print the schema."""
    from resnet_spec.spec_files import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0
