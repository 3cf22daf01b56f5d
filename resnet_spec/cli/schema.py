"""Print the JSON Schema of a spec file, for editors and other programs."""

from __future__ import annotations

import argparse

from resnet_spec.files.json_text import json_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments: it has none."""


def run(args: argparse.Namespace) -> int:
    """Print the schema."""
    from resnet_spec.describing.spec_files import json_schema

    print(json_text(json_schema(), indent=2))
    return 0
