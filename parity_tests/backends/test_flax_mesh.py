"""The Flax backend over several devices of one process, against one device.

XLA divides the CPU into devices as it starts, so that is done in a process of its own.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from flax_members import (
    EXACT,
    QUICKER,
    STATISTICS,
    STEPS,
    alone_trained,
    bytes_kept,
    fresh,
    plan_of,
    recipe_of,
    shares_of,
    trained,
    without,
)
from flax_networks import (
    RATES,
    assert_close,
    assert_states_close,
    backend,
    batch_of,
    reference,
)
from several import Found, found_by, with_gradients, write

from resnet_spec.contract import Batch
from resnet_spec.errors import BackendError
from resnet_spec.group import ALONE

jax = pytest.importorskip("jax")
mesh_programs: Any = importlib.import_module("resnet_spec_flax.mesh_programs")
pytestmark = pytest.mark.xdist_group("flax_group")

ALL = "cpu:all"
LOGS = ("loss", "correct", "count")


# What a process with several devices does.


def refused(call: Any) -> str:
    try:
        call()
    except BackendError as error:
        return str(error)
    return ""


def refusals(session: Any, devices: int) -> Found:
    plan, odd = plan_of(), batch_of(plan_of(), 0, 2 * devices + 1)
    recipe = recipe_of(2).model_copy(update={"batch": 2 * devices + 2})
    one = replace(odd, **{k: getattr(odd, k)[:devices] for k in ("images", "labels", "indices")})
    small = plan_of("replica", side=1)
    lonely = replace(one, images=one.images[:, :1, :1], noise={})
    calls = {
        "gradients": lambda: session.gradients(odd),
        "recipe": lambda: backend.Session(plan, recipe, device=ALL),
        "one value": lambda: backend.Session(small, device=ALL).gradients(lonely),
        "one device": lambda: backend.Session(plan, device="cpu", shard=True),
        "nowhere": lambda: backend.Session(plan, device="nosuch:all"),
    }
    return {name: np.array(refused(call)) for name, call in calls.items()}


def overflown() -> Found:
    """Return what a float16 step does whose gradients overflow on some device."""
    session = fresh(ALONE, 1, precision="float16", device=ALL, shard=True)
    before = session.state()
    session.load(before | {"loss_scale/scale": np.float32(2.0**40)})
    session.train(shares_of(ALONE, 1, 1), RATES[:1])
    after = session.state()
    same = [np.array_equal(after[name], before[name]) for name in plan_of().trainable]
    return {"same": np.array(same), "scale": after["loss_scale/scale"]}


def train_on_all(rank: int, size: int, port: int, out: str) -> None:
    devices = jax.local_device_count()
    batches = shares_of(ALONE, 2, 4)
    session = fresh(ALONE, 2, device=ALL)
    found: dict[str, Found] = {"whole": trained(session, batches)}
    found["gradients"] = with_gradients(session, batch_of(plan_of()))
    found["refusals"] = refusals(session, devices)
    found["info"] = {k: np.array(v) for k, v in session.info.items()}
    replica = fresh(ALONE, 1, "replica", device=ALL)
    found["replica"] = trained(replica, shares_of(ALONE, 1))
    found["places"] = {"": np.array(places(devices))}
    if devices == 4:
        found |= in_parts(batches)
        found["overflow"] = overflown()
    write(found, out)


def in_parts(batches: list[Batch]) -> dict[str, Found]:
    session = fresh(ALONE, 2, device=ALL, shard=True)
    session.train(batches[:2], RATES[:2])
    found = {"bytes": bytes_kept(session)}
    session.load(session.state())
    session.train(batches[2:], RATES[2:4])
    found["parts"] = session.state()
    found["parts gradients"] = with_gradients(session, batch_of(plan_of()))
    found["parts predicted"] = {"": next(session.predict([batch_of(plan_of())]))}
    found["parts info"] = {k: np.array(v) for k, v in session.info.items()}
    with patch.object(mesh_programs.Layout, "of", lambda layout, shape: layout.whole):
        found["bytes of wholes"] = bytes_kept(fresh(ALONE, 2, device=ALL, shard=True))
    return found


def places(devices: int) -> list[str]:
    """Return how arrays of some shapes are cut."""
    mesh = jax.sharding.Mesh(np.array(jax.local_devices())[:, None], mesh_programs.AXES)
    shapes = (), (3,), (devices,), (3, 3, 4, 4), (1, devices, 2 * devices, 3)
    return [str(tuple(mesh_programs.Layout(mesh, shard=True).of(s).spec)) for s in shapes]


@pytest.fixture(
    scope="module",
    params=[2, pytest.param(4, marks=pytest.mark.thorough)],
    ids="{} devices".format,
)
def on_all(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Found]]:
    count, folder = request.param, tmp_path_factory.mktemp("mesh")
    flags = f"{QUICKER['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
    return count, found_by("test_flax_mesh", "train_on_all", 1, folder, XLA_FLAGS=flags)[0]


OnAll = tuple[int, dict[str, Found]]
of_four = pytest.mark.parametrize(
    "on_all", [pytest.param(4, marks=pytest.mark.thorough)], indirect=True
)


def exact_gradients(found: dict[str, Found]) -> tuple[Any, Found]:
    """Return the reference with the state after training, and its gradients."""
    session = reference.Session(plan_of(), recipe_of(2), precision="float64")
    session.load(without(found["whole"], *LOGS))
    return session, with_gradients(session, batch_of(plan_of()))


def test_several_devices_train_what_one_does(on_all: OnAll) -> None:
    found = on_all[1]
    assert_states_close(found["whole"], alone_trained(2, 4), EXACT)
    assert_states_close(found["gradients"], exact_gradients(found)[1], EXACT)


@of_four
def test_devices_with_parts_train_what_one_does(on_all: OnAll) -> None:
    found = on_all[1]
    assert_states_close(found["parts"], without(alone_trained(2, 4), *LOGS), EXACT)
    session, gradients = exact_gradients(found)
    assert_states_close(found["parts gradients"], gradients, EXACT)
    logits = {"": next(session.predict([batch_of(plan_of())]))}
    assert_states_close(found["parts predicted"], logits, EXACT)


def test_devices_with_statistics_of_their_own_train_as_parts_do(on_all: OnAll) -> None:
    devices, found = on_all
    expected = without(alone_trained(devices, STEPS), *STATISTICS)
    assert_states_close(without(found["replica"], *STATISTICS), expected, EXACT)
    with pytest.raises(AssertionError, match=r"e-0\d > "):
        assert_close(found["replica"]["fc.weight"], found["whole"]["fc.weight"], EXACT, "fc")


@of_four
def test_a_device_keeps_its_part(on_all: OnAll) -> None:
    devices, found = on_all
    held, wholes = found["bytes"], found["bytes of wholes"]
    assert held["each"].tolist() == [held["whole"] // devices] * devices
    assert wholes["each"].tolist() == [wholes["whole"]]  # Which no test of numbers sees.
    assert str(found["parts info"]["sharded"]) == "true"


def test_arrays_are_cut_along_their_largest_axis(on_all: OnAll) -> None:
    both = "('replica', 'device')"
    assert on_all[1]["places"][""].tolist() == [
        "()",
        "()",
        f"({both},)",
        f"(None, None, {both})",
        f"(None, None, {both})",
    ]


@of_four
def test_an_overflow_skips_the_step_on_all_devices(on_all: OnAll) -> None:
    assert on_all[1]["overflow"]["same"].all()
    assert on_all[1]["overflow"]["scale"] == 2.0**39


def test_what_cannot_be_shared_out_is_one_line(on_all: OnAll) -> None:
    devices, found = on_all
    said = {name: str(line) for name, line in found["refusals"].items()}
    images = 2 * devices + 1
    rule = f"cannot be shared out among the {devices} devices"
    assert said["gradients"] == f"images of a part = {images}: {rule}"
    by = f"must be a multiple of accumulate x devices = 2 x {devices}"
    assert said["recipe"] == f"batch = {images + 1}: {by}"
    assert said["one value"].startswith(f"batch = {devices}: leaves ")
    remedy = "use several processes, or --device cpu:all where there are several"
    assert said["one device"] == f"--shard: needs several devices; {remedy}"
    assert said["nowhere"].startswith("device = nosuch:all: cannot be used by jax here; ")


def test_info_says_how_many_devices(on_all: OnAll) -> None:
    devices, found = on_all
    assert str(found["info"]["devices"]) == str(devices) and "sharded" not in found["info"]
    assert not {"devices", "sharded", "processes"} & fresh(ALONE, 2).info.keys()
    one = backend.Session(plan_of(), device=ALL)  # Here is one device, and so the usual program.
    assert type(one._others).__name__ == "Alone"
