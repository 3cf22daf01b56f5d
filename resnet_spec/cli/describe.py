"""Show the layers, parameters and costs of a network."""

from __future__ import annotations

import argparse

from resnet_spec.cli.arguments import add_format, add_spec, spec_of
from resnet_spec.files.json_text import json_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_spec(parser)
    add_format(parser, ("table", "json", "toml"))


def run(args: argparse.Namespace) -> int:
    """Print the costs as a table or JSON, or the whole spec as TOML."""
    from resnet_spec.describing.spec_files import dump_toml
    from resnet_spec.planning.costs import describe
    from resnet_spec.planning.costs_text import description_text
    from resnet_spec.planning.lowering import lower
    from resnet_spec.printing.consoles import table_width

    spec = spec_of(args)
    if args.format == "toml":
        print(dump_toml(spec), end="")
        return 0
    description = describe(lower(spec))
    if args.format == "json":
        print(json_text({**description.to_dict(), "spec": spec.to_dict()}, indent=2))
    else:
        print(description_text(description, table_width()))
    return 0
