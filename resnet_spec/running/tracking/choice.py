"""Find trackers by name, and say what is missing before anything is trained."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import NamedTuple, cast

from resnet_spec.describing.text_lists import Texts, listed
from resnet_spec.errors import TrackingError, did_you_mean, problem
from resnet_spec.running.tracking.tracker import Tracked, Tracker

Start = Callable[[Tracked, str | None], Tracker]


class Entry(NamedTuple):
    """Where a tracker is, and the package of its client."""

    module: str
    client: str


TRACKERS = {
    "tensorboard": Entry("resnet_spec.running.tracking.tensorboard", "tensorboard"),
    "mlflow": Entry("resnet_spec.running.tracking.mlflow", "mlflow"),
    "wandb": Entry("resnet_spec.running.tracking.wandb", "wandb"),
}

NONE = "none"


def chosen(names: Texts) -> tuple[str, ...]:
    """Return the names, which a text separates by commas; `none` is no tracker at all.

    Imports none of them. Raises TrackingError for an unknown name, and for a client that is not
    installed, with the command that installs it.
    """
    texts = listed(names, "track", TrackingError)
    found = tuple(dict.fromkeys(name.strip() for text in texts for name in text.split(",")))
    if found == (NONE,):
        return ()
    lines = [line for name in found if (line := _problem(name))]
    if lines:
        raise TrackingError(*lines)
    return found


def _problem(name: str) -> str:
    if name == NONE:
        return problem("--track", name, "cannot stand beside others", "leave it out")
    if name not in TRACKERS:
        rule = "is no tracker"
        return problem("--track", name or "''", rule, did_you_mean(name, [*TRACKERS, NONE]))
    client = TRACKERS[name].client
    if not _is_installed(client):
        remedy = f"run: pip install 'resnet-spec[{name}]'"
        return problem("--track", name, f"needs {client}, not installed", remedy)
    return ""


def _is_installed(client: str) -> bool:
    return importlib.util.find_spec(client) is not None


def starter(name: str) -> Start:
    """Import the tracker `name` and return what opens a run with it."""
    return cast(Start, importlib.import_module(TRACKERS[name].module).start)
