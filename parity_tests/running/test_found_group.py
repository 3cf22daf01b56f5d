"""Which of several processes this is, by what starters say in the environment."""

from __future__ import annotations

from typing import Any

import pytest

from resnet_spec.errors import BackendError
from resnet_spec.group import ALONE, DESCRIBED, Group, check_served, meet_seconds
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.running.found_group import found_group

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "host", "MASTER_PORT": "29500"}
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_JOB_ID": "40123",
    "SLURM_STEP_NODELIST": "node[07-09,12],other",
}
MPI = {
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_SIZE": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "1",
}
MSRUN = {
    "MS_ROLE": "MS_WORKER",
    "MS_WORKER_NUM": "2",
    "MS_NODE_ID": "0",
    "MS_SCHED_HOST": "host",
    "MS_SCHED_PORT": "8118",
}
TPU = {"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ALONE),
        ({"RANK": "3"}, ALONE),
        ({"WORLD_SIZE": "1", "RANK": "0"}, ALONE),
        (TORCHRUN, Group(1, 4, "host:29500", 0)),
        ({**TORCHRUN, "LOCAL_RANK": "1"}, Group(1, 4, "host:29500", 1)),
        ({**TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE": "False"}, Group(1, 4, "host:29500")),
        (
            {**TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE": "True"},
            Group(1, 4, "host:29500", served_by="torchrun"),
        ),
        (SLURM, Group(5, 8, "node07:22509", 1)),
        ({**SLURM, "MASTER_ADDR": "a", "MASTER_PORT": "9"}, Group(5, 8, "a:9", 1)),
        ({**SLURM, "SLURM_STEP_NODELIST": "one,two"}, Group(5, 8, "one:22509", 1)),
        ({**SLURM, "SLURM_STEP_NODELIST": "r[1-2]x,y"}, Group(5, 8, "r1x:22509", 1)),
        ({**SLURM, "SLURM_STEP_NODELIST": "r[1-2]n[03-4,7]x,y"}, Group(5, 8, "r1n03x:22509", 1)),
        ({**SLURM, "SLURM_STEP_ID": "2"}, Group(5, 8, "node07:22511", 1)),
        ({**SLURM, "MASTER_PORT": "9", "SLURM_JOB_ID": "x"}, Group(5, 8, "node07:9", 1)),
        # Of a batch script outside srun: the job's tasks are there, a step's are not.
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, ALONE),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, ALONE),
        (MPI, Group(2, 3, "10.0.0.1:1", 0)),
        (TPU, Group(1, 2, "10.0.0.1:8476")),
        ({**TPU, "TPU_WORKER_HOSTNAMES": "localhost"}, ALONE),
        # The nearest starter is believed: inside a SLURM step, or a pod.
        ({**SLURM, **TORCHRUN}, Group(1, 4, "host:29500", 0)),
        ({**SLURM, **MPI}, Group(2, 3, "10.0.0.1:1", 0)),
        ({**SLURM, **TORCHRUN, **MSRUN}, Group(0, 2, "host:8118", 0, "msrun")),
        # What MindSpore was told by us is no starter's word.
        ({**SLURM, **MSRUN, DESCRIBED: "host:1"}, Group(5, 8, "node07:22509", 1)),
    ],
)
def test_the_group_is_found(environment: dict[str, str], expected: Group) -> None:
    assert found_group(environment) == expected


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"RANK": "four"}, "RANK = four: must be a whole number >= 0"),
        ({"RANK": "4"}, "RANK = 4: must be below the number of processes, 4"),
        ({"RANK": "-1"}, "RANK = -1: must be a whole number >= 0"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE = 0: must be a whole number >= 1"),
        ({"WORLD_SIZE": ""}, 'WORLD_SIZE = "": must be a whole number >= 1'),
        ({"RANK": None}, "RANK: is not set, though other processes are spoken of; set it"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT = 65536: must be 1..65535"),
        ({"MASTER_PORT": "x"}, "MASTER_PORT = x: must be a whole number >= 1"),
        (
            {"MASTER_ADDR": None},
            "MASTER_ADDR: is not set, though other processes are spoken of; "
            "set it to the host of rank 0",
        ),
    ],
)
def test_half_a_group_is_refused(changes: dict[str, str | None], line: str) -> None:
    environment = {k: v for k, v in {**TORCHRUN, **changes}.items() if v is not None}
    with pytest.raises(BackendError) as caught:
        found_group(environment)
    assert caught.value.problems == (line,)


def test_steps_that_share_a_host_meet_at_ports_of_their_own() -> None:
    steps = [
        found_group({**SLURM, "SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)}).address
        for job in range(40_000, 40_150)
        for step in range(64)
    ]
    assert len(set(steps)) == len(steps)
    assert all(20_000 <= int(address.rpartition(":")[2]) < 32_768 for address in steps)


@pytest.mark.parametrize("hosts", ["", "[", "node[", "node[1-2"])
def test_hosts_that_name_none_are_refused(hosts: str) -> None:
    line = "SLURM_STEP_NODELIST: names no host; set MASTER_ADDR to that of rank 0"
    with pytest.raises(BackendError) as caught:
        found_group({**SLURM, "SLURM_STEP_NODELIST": hosts})
    assert caught.value.problems == (line,)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"MS_ROLE": "MS_FOO"}, "MS_ROLE = MS_FOO: must be MS_WORKER or MS_SCHED"),
        ({"MS_SCHED_PORT": "99999"}, "MS_SCHED_PORT = 99999: must be 1..65535"),
        (
            {"MS_SCHED_HOST": ""},
            "MS_SCHED_HOST: is not set, though other processes are spoken of; "
            "set it to the host of the scheduler",
        ),
    ],
)
def test_half_a_cluster_is_refused(changes: dict[str, str], line: str) -> None:
    assert found_group(MSRUN) == Group(0, 2, "host:8118", 0, "msrun")
    with pytest.raises(BackendError) as caught:
        found_group({**MSRUN, **changes})
    assert caught.value.problems == (line,)


@pytest.mark.parametrize("text", ["", "soon", "0", "-3", "nan", "inf"])
def test_a_time_to_meet_in_that_is_none_is_one_line(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESNET_SPEC_MEET_S", text)
    shown = text or '""'
    line = f"RESNET_SPEC_MEET_S = {shown}: must be seconds, above 0"
    with pytest.raises(BackendError) as caught:
        meet_seconds()
    assert caught.value.problems == (line,)
    monkeypatch.setenv("RESNET_SPEC_MEET_S", "2.5")
    assert meet_seconds() == 2.5


def test_who_listens_already_for_another_framework_is_named() -> None:
    served = Group(1, 2, "host:1", served_by="torchrun")
    rule = "cannot meet the others at host:1: torchrun listens there, for another framework"
    with pytest.raises(BackendError) as caught:
        check_served(served, by=["msrun"])
    assert caught.value.problems == (f"rank 1: {rule}; start them with resnet-spec launch",)
    check_served(served, by=["msrun", "torchrun"])
    check_served(Group(1, 2, "host:1"))


@pytest.mark.parametrize(
    ("backend", "by"), [("torch", "msrun"), ("flax", "torchrun"), ("mindspore", "torchrun")]
)
def test_a_framework_does_not_wait_at_another_s_address(backend: str, by: str) -> None:
    if backend not in installed_backends():
        pytest.skip(f"{backend} is not installed")
    package: Any = load_backend(backend)
    with pytest.raises(BackendError, match=f"rank 1: .*: {by} listens there"):
        package.join(Group(1, 2, "127.0.0.1:1", served_by=by))
