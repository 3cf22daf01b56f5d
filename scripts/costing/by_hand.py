"""What a session costs beside the same native module in a hand-written loop (`BACKEND-by-hand`).

Turns of as many steps each as are asked for, one of the session and one of the loop in each round;
both are processes of `bench`. The loop's images are float32, normalised and on the device already;
the session's are uint8, and it normalises them, counts what is right and fetches losses.
"""

from __future__ import annotations

from typing import Any

from costing.asking import Setting, excess, one_of, percent, say
from resnet_spec.benchmarking.entries import entries_of
from resnet_spec.benchmarking.results import Result
from resnet_spec.benchmarking.rounds import measure
from resnet_spec.benchmarking.tables import notes

HEADS = ("backend", "session, images/s", "by hand, images/s", "session's time is more by")


def measured(setting: Setting) -> dict[str, Result]:
    """Return the result of bench for each backend."""
    found: dict[str, Result] = {}
    asked = setting.asked()
    for name in setting.backends:
        entries, left_out = entries_of([name], [_loop(name)], asked.mode, asked.precision)
        found[name] = measure(asked, entries, left_out, say, steps=setting.steps)
    return found


def rows(found: dict[str, Result]) -> list[tuple[str, ...]]:
    """Return a row for each backend that was measured beside its loop."""
    made: list[tuple[str, ...]] = []
    for name, result in found.items():
        session, loop = one_of(result, name), one_of(result, _loop(name))
        if session is None or loop is None:
            continue
        speeds = [f"{result.speed(one).median:.0f}" for one in (session, loop)]
        made.append((name, *speeds, percent(excess([*session.turns], [*loop.turns]))))
    return made


def doubts(result: Result) -> list[str]:
    """Return bench's notes on who failed, and on what else ran."""
    usual = ("spread:", "ratio:", "GFLOP/s:", "share:", "memory:")
    return [line for line in notes(result) if not line.startswith(usual)]


def plain(found: dict[str, Result]) -> dict[str, Any]:
    """Return plain JSON types, with every turn."""
    return {name: result.to_dict() for name, result in found.items()}


def _loop(backend: str) -> str:
    return f"{backend}-by-hand"
