"""`resnet-spec show`: pictures of data, networks and results; each has a text form, too."""

from __future__ import annotations

import argparse

from resnet_spec.cli import show_data, show_network, show_results, show_weights
from resnet_spec.cli.show_output import check_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare a parser per picture."""
    pictures = parser.add_subparsers(dest="what", required=True, metavar="WHAT", title="pictures")
    for module in (show_data, show_weights, show_results, show_network):
        for name, picture in module.PICTURES.items():
            about = f"{picture.help[0].upper()}{picture.help[1:]}."
            chosen = pictures.add_parser(name, help=picture.help, description=about)
            picture.add_arguments(chosen)
            chosen.set_defaults(picture=picture.run, parser=chosen)


def run(args: argparse.Namespace) -> int:
    """Draw the picture that was chosen, or print its text form."""
    check_output(args)
    return args.picture(args)
