"""A planted fault: what is wrong, what must show it, where, and what it is called."""

from __future__ import annotations

from dataclasses import dataclass, field

from changes import Change
from patches import NATIVE, Patch, PatchedSide

from resnet_spec.parity.setup import Setup
from resnet_spec.parity.side import Side


@dataclass(frozen=True)
class Fault:
    """A change to the setup of `case`, or a patch of its session, which `level` must show.

    node: the one that the localiser must name; "" where there is no node to name (names, shapes).
    causes: one of which it must name; () where no cause of the catalogue explains it.
    native: whether the patch replaces a native layer; only the backends of `NATIVE` have any.
    """

    level: str
    case: str
    change: Change = field(default=lambda setup: setup)
    node: str = ""
    causes: tuple[str, ...] = ()
    patch: Patch | None = None
    native: bool = True

    def plant(self, backend: str, setup: Setup) -> Side:
        """Return `backend`'s side of `setup` with the fault in it."""
        if self.patch is None:
            return Side(backend, self.change(setup))
        return PatchedSide(backend, self.change(setup), self.patch)

    def suits(self, backend: str) -> bool:
        """Whether it can be planted there."""
        return self.patch is None or not self.native or backend in NATIVE
