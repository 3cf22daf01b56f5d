"""Which files the images of a split are, where they are files."""

from __future__ import annotations

from typing import Any

from resnet_spec.data.dataset import Split
from resnet_spec.data.encoded import EncodedSplit
from resnet_spec.data.held_out import Part
from resnet_spec.data.relabelled import Relabelled


def file_names(split: Split) -> list[str] | None:
    """Return the path of each image, in order; None for images that are no files of their own."""
    found: Any = split  # For type checkers; which of a split's kinds this is, is asked here.
    match found:
        case Part():
            whole = file_names(found.whole)
            return None if whole is None else [whole[i] for i in found.places.tolist()]
        case Relabelled():
            return file_names(found.whole)
        case EncodedSplit():
            names = [source for source in found.sources if isinstance(source, str)]
            return names if len(names) == len(split) else None
        case _:
            return None
