"""What other projects' networks cannot have, and what is said to a plan that has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from resnet_spec.ops import Add, Conv
from resnet_spec.weights.naming.addresses import Place, Places, is_pre_activation


class Lack(NamedTuple):
    """A part that a plan may have and a project has not; `reason` follows `names = SCHEME: `."""

    is_in: Callable[[Places], bool]
    reason: str


def _convolutions(nodes: Places) -> list[tuple[Place, Conv]]:
    return [(p, p.node) for p in nodes if isinstance(p.node, Conv)]


def has_blocks_of(depth: int) -> Callable[[Places], bool]:
    """Return whether there are blocks of `depth` convolutions: 2 is basic, 3 a bottleneck."""

    def is_in(nodes: Places) -> bool:
        return any(place.depth == depth for place in nodes)

    return is_in


def is_post_activation(nodes: Places) -> bool:
    """Whether norm and activation follow the convolutions."""
    return not is_pre_activation(nodes)


def has_gates(nodes: Places) -> bool:
    """Whether blocks have squeeze-and-excitation."""
    return any(place.kind == "gate" for place in nodes)


def has_several_first_convolutions(nodes: Places) -> bool:
    """Whether the stem is deep."""
    return any(place.where == "stem" and place.number > 1 for place, _ in _convolutions(nodes))


def has_groups(nodes: Places) -> bool:
    """Whether a convolution has groups."""
    return any(conv.groups > 1 for _, conv in _convolutions(nodes))


def has_other_inner_widths(nodes: Places) -> bool:
    """Whether a bottleneck's inner width is not a quarter of its output's."""
    bodies: dict[int, list[Conv]] = {}
    for place, conv in _convolutions(nodes):
        if place.where == "body" and place.depth == 3:
            bodies.setdefault(place.flat, []).append(conv)
    return any(4 * body[0].out_shape[0] != body[-1].out_shape[0] for body in bodies.values())


def has_average_pools(nodes: Places) -> bool:
    """Whether shortcuts pool."""
    return any(place.where == "shortcut" and place.kind == "pool" for place in nodes)


def has_zero_padding(nodes: Places) -> bool:
    """Whether shortcuts add zero channels (shortcut A)."""
    return any(place.kind == "pad" for place in nodes)


def has_projections(nodes: Places) -> bool:
    """Whether a shortcut has a convolution."""
    return any(place.where == "shortcut" for place, _ in _convolutions(nodes))


def projects_without_need(nodes: Places) -> bool:
    """Whether a shortcut has a convolution though neither channels nor size change."""
    pooled = {p.flat for p in nodes if p.where == "shortcut" and p.kind == "pool"}
    return any(
        place.where == "shortcut"
        and (place.block > 0 or (conv.in_shape == conv.out_shape and place.flat not in pooled))
        for place, conv in _convolutions(nodes)
    )


def projects_in_the_first_stage(nodes: Places) -> bool:
    """Whether a shortcut of the first stage has a convolution."""
    return any(place.where == "shortcut" and place.stage == 1 for place, _ in _convolutions(nodes))


def is_plain(nodes: Places) -> bool:
    """Whether no block has a shortcut."""
    return not any(isinstance(place.node, Add) for place in nodes)


PRE_ACTIVATION = Lack(is_pre_activation, "has post-activation networks only")
GATES = Lack(has_gates, "has no squeeze-and-excitation")
DEEP_STEM = Lack(has_several_first_convolutions, "has one convolution before its stages")
GROUPS = Lack(has_groups, "has no groups of convolutions")
INNER_WIDTHS = Lack(has_other_inner_widths, "has bottlenecks a quarter as wide inside as outside")
AVERAGE_POOLS = Lack(has_average_pools, "has no average pool in its shortcuts")
ZERO_PADDING = Lack(has_zero_padding, "has convolutions in its shortcuts, not zero channels")
PROJECTION_ALL = Lack(projects_without_need, "has no convolution in a shortcut that needs none")
PLAIN = Lack(is_plain, "has a shortcut in every block")

PLAIN_RESNET = (PRE_ACTIVATION, GATES, ZERO_PADDING, PROJECTION_ALL, PLAIN)
"""For projects with projections, and whatever stem, pool and groups they may have."""
NARROW = (DEEP_STEM, AVERAGE_POOLS, GROUPS, INNER_WIDTHS)
"""For projects that have ResNet-18 to 152 and none of their relatives."""
