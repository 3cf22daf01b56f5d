"""`resnet-spec show spec`: the network as a diagram, drawn from its plan."""

from __future__ import annotations

import argparse

from resnet_spec.cli.arguments import add_spec, spec_of
from resnet_spec.cli.show_output import Picture, add_output, output_of, put


def _spec_arguments(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    add_output(parser)


def _spec(args: argparse.Namespace) -> int:
    from resnet_spec.planning.lowering import lower
    from resnet_spec.showing import diagram, tree
    from resnet_spec.showing.network import network_of

    spec = spec_of(args)
    output = output_of(args, spec.name)
    network = network_of(lower(spec))
    blocks = sum(it.count for stage in network.stages for it in stage.repeats)
    kinds = len(network.kinds)
    return put(
        output,
        f"{network.name}: {blocks} block{'s' * (blocks > 1)} of {kinds} kind{'s' * (kinds > 1)}",
        lambda: tree.lines(network),
        lambda: diagram.figure(network),
    )


PICTURES = {"spec": Picture("a network as a diagram", _spec_arguments, _spec)}
