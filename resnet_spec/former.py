"""The names by which documented modules went before they stood in rooms; they go on working.

`from resnet_spec.batches import train_batches` gives the same module as
`from resnet_spec.data.batches import train_batches`. Python asks the finder below only for what it
finds nowhere else, so that it costs other imports nothing.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

FORMER = {
    "batches": "data.batches",
    "checkpoint": "weights.checkpoint",
    "converting": "weights.converting",
    "evaluate": "running.evaluate",
    "fit": "running.fit",
    "metrics": "running.metrics",
    "pretrained": "weights.published",
    "pretrained.adopting": "weights.adopting",
    "pretrained.loading": "weights.loading",
    "recognising": "weights.recognising.recognise",
    "report": "reporting.report",
    "report_html": "reporting.report_html",
    "runs": "running.runs",
}


class FormerNames:
    """Finds a documented module under its former name: the module itself, no copy of it.

    A finder and loader as `importlib.abc` has them; that module takes longer to import than all
    that `resnet-spec --help` needs.
    """

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """Return how to load `fullname`, or None where it never was one of the project's."""
        package, _, name = fullname.partition(".")
        if package != __package__ or name not in FORMER:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(fullname, cast("Any", self))

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module that goes by another name now."""
        present = FORMER[spec.name.removeprefix(f"{__package__}.")]
        module = importlib.import_module(f"{__package__}.{present}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module back its own spec; it ran under its own name."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Have Python ask for former names, once."""
    if not any(isinstance(finder, FormerNames) for finder in sys.meta_path):
        sys.meta_path.append(FormerNames())
