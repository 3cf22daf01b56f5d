"""What `load_data` says of a path that it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet_spec.data import load_data
from resnet_spec.errors import DataError


def refused(path: Path | str) -> str:
    """Return the one line of the refusal; fails where the path is taken."""
    with pytest.raises(DataError) as caught:
        load_data(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)
