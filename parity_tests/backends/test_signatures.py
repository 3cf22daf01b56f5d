"""Sessions are called alike: their methods take what the contract declares, with its defaults."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from resnet_spec import contract
from resnet_spec.errors import BackendError
from resnet_spec.loader import load_backend, manifest_of

BACKENDS = ("flax", "mindspore", "numpy", "torch")
METHODS = [
    name
    for name, method in vars(contract.Session).items()
    if inspect.isfunction(method) and (name == "__init__" or not name.startswith("_"))
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_takes_what_the_contract_says(method: str, backend: str) -> None:
    try:
        package: Any = load_backend(backend)
    except BackendError as error:
        pytest.skip(str(error))
    wanted, found = (
        dict(inspect.signature(getattr(one, method)).parameters)
        for one in (contract.Session, package.Session)
    )
    if not hasattr(package, "join"):  # A group is given to those alone that offer it.
        wanted.pop("group", None)
    manifest = manifest_of(backend)
    if manifest is None or not manifest.shards:
        wanted.pop("shard", None)
    taken = [(found[name].kind, found[name].default) for name in wanted]
    assert taken == [(it.kind, it.default) for it in wanted.values()]
    assert all(found[name].default is not found[name].empty for name in found.keys() - {*wanted})
