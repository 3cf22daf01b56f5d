"""`resnet-spec completion`: a script for the shell, made from the commands' own parsers."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    from resnet_spec.cli.completion_scripts import SCRIPTS
    from resnet_spec.cli.completion_words import all_words

    print(SCRIPTS[args.shell](all_words()))
    return 0
