"""What other projects' networks cannot have, and what is said to a plan that has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from resnet_spec.ops import Add, Conv
from resnet_spec.weights.naming.numbered_nodes import NumberedNode, NumberedNodes, is_pre_activation


class Unsupported(NamedTuple):
    """A part that a plan may have and a project has not; `reason` follows `names = SCHEME: `."""

    is_in: Callable[[NumberedNodes], bool]
    reason: str


def _convolutions(nodes: NumberedNodes) -> list[tuple[NumberedNode, Conv]]:
    return [(p, p.node) for p in nodes if isinstance(p.node, Conv)]


def has_blocks_of(depth: int) -> Callable[[NumberedNodes], bool]:
    """Return whether there are blocks of `depth` convolutions: 2 is basic, 3 a bottleneck."""

    def is_in(nodes: NumberedNodes) -> bool:
        return any(node.depth == depth for node in nodes)

    return is_in


def is_post_activation(nodes: NumberedNodes) -> bool:
    """Whether norm and activation follow the convolutions."""
    return not is_pre_activation(nodes)


def has_gates(nodes: NumberedNodes) -> bool:
    """Whether blocks have squeeze-and-excitation."""
    return any(node.kind == "gate" for node in nodes)


def has_several_first_convolutions(nodes: NumberedNodes) -> bool:
    """Whether the stem is deep."""
    return any(node.part == "stem" and node.number > 1 for node, _ in _convolutions(nodes))


def has_groups(nodes: NumberedNodes) -> bool:
    """Whether a convolution has groups."""
    return any(conv.groups > 1 for _, conv in _convolutions(nodes))


def has_other_inner_widths(nodes: NumberedNodes) -> bool:
    """Whether a bottleneck's inner width is not a quarter of its output's."""
    bodies: dict[int, list[Conv]] = {}
    for node, conv in _convolutions(nodes):
        if node.part == "body" and node.depth == 3:
            bodies.setdefault(node.block_number, []).append(conv)
    return any(4 * body[0].out_shape[0] != body[-1].out_shape[0] for body in bodies.values())


def has_average_pools(nodes: NumberedNodes) -> bool:
    """Whether shortcuts pool."""
    return any(node.part == "shortcut" and node.kind == "pool" for node in nodes)


def has_zero_padding(nodes: NumberedNodes) -> bool:
    """Whether shortcuts add zero channels (shortcut A)."""
    return any(node.kind == "pad" for node in nodes)


def has_projections(nodes: NumberedNodes) -> bool:
    """Whether a shortcut has a convolution."""
    return any(node.part == "shortcut" for node, _ in _convolutions(nodes))


def projects_without_need(nodes: NumberedNodes) -> bool:
    """Whether a shortcut has a convolution though neither channels nor size change."""
    pooled = {p.block_number for p in nodes if p.part == "shortcut" and p.kind == "pool"}
    return any(
        node.part == "shortcut"
        and (
            node.block > 0 or (conv.in_shape == conv.out_shape and node.block_number not in pooled)
        )
        for node, conv in _convolutions(nodes)
    )


def projects_in_the_first_stage(nodes: NumberedNodes) -> bool:
    """Whether a shortcut of the first stage has a convolution."""
    return any(node.part == "shortcut" and node.stage == 1 for node, _ in _convolutions(nodes))


def is_plain(nodes: NumberedNodes) -> bool:
    """Whether no block has a shortcut."""
    return not any(isinstance(node.node, Add) for node in nodes)


PRE_ACTIVATION = Unsupported(is_pre_activation, "has post-activation networks only")
GATES = Unsupported(has_gates, "has no squeeze-and-excitation")
DEEP_STEM = Unsupported(has_several_first_convolutions, "has one convolution before its stages")
GROUPS = Unsupported(has_groups, "has no groups of convolutions")
INNER_WIDTHS = Unsupported(
    has_other_inner_widths, "has bottlenecks a quarter as wide inside as outside"
)
AVERAGE_POOLS = Unsupported(has_average_pools, "has no average pool in its shortcuts")
ZERO_PADDING = Unsupported(has_zero_padding, "has convolutions in its shortcuts, not zero channels")
PROJECTION_ALL = Unsupported(
    projects_without_need, "has no convolution in a shortcut that needs none"
)
PLAIN = Unsupported(is_plain, "has a shortcut in every block")

PLAIN_RESNET = (PRE_ACTIVATION, GATES, ZERO_PADDING, PROJECTION_ALL, PLAIN)
"""For projects with projections, and whatever stem, pool and groups they may have."""
NARROW = (DEEP_STEM, AVERAGE_POOLS, GROUPS, INNER_WIDTHS)
"""For projects that have ResNet-18 to 152 and none of their relatives."""
