"""Which of several processes this is, as whoever started it says in the environment.

A process that nobody says anything to trains alone. The first of these that speaks is believed:
MindSpore's msrun, `resnet-spec launch`, torchrun and Kubernetes' operators by RANK and WORLD_SIZE,
Open MPI's mpirun, SLURM's srun, and a TPU pod. Where one is started by another, as mpirun starts
its processes by srun, those of both are there, and the nearest to the process comes first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from resnet_spec.errors import BackendError, problem
from resnet_spec.group import ALONE, DESCRIBED, Group

Environment = Mapping[str, str]

_FIRST_PORT, _PORTS, _STEPS = 20_000, 12_763, 64
"""Ports of SLURM's steps: one of these, by the numbers of job and step.

They end below 32768, from where on Linux gives ports to connections. Their number is a prime, so
that the first 64 steps of jobs that follow each other, which may share a host, have one each.
"""
_TPU_PORT = 8476
_LAST_PORT = 65_535
_ROLE, _ROLES = "MS_ROLE", ("MS_WORKER", "MS_SCHED")


def found_group(environment: Environment) -> Group:
    """Return the group that the environment speaks of; ALONE where it speaks of none.

    Raises BackendError for numbers that make no group.
    """
    for sign, read in _STARTERS.items():
        if sign in environment and not (sign == _ROLE and DESCRIBED in environment):
            group = read(environment)
            return group if group.size > 1 else ALONE
    return ALONE


def _of_torchrun(environment: Environment) -> Group:
    """Return the group of RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT and LOCAL_RANK.

    At that port torchrun's agent listens itself, and says so, unless it is asked not to.
    """
    size = _number(environment, "WORLD_SIZE", 1)
    if size == 1:
        return ALONE
    rank = _rank(environment, "RANK", size)
    local = _number(environment, "LOCAL_RANK", 0) if "LOCAL_RANK" in environment else 0
    by = "torchrun" if environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else ""
    return Group(rank, size, _address(environment), local, by)


def _of_slurm(environment: Environment) -> Group:
    size = _number(environment, "SLURM_STEP_NUM_TASKS", 1)
    if size == 1:
        return ALONE
    rank = _rank(environment, "SLURM_PROCID", size)
    hosts = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    host = environment.get("MASTER_ADDR") or _first_host(hosts)
    is_told = "MASTER_PORT" in environment
    port = _port(environment, "MASTER_PORT") if is_told else _port_of_step(environment)
    return Group(rank, size, f"{host}:{port}", _number(environment, "SLURM_LOCALID", 0))


def _port_of_step(environment: Environment) -> int:
    """Return a port that no other step uses which runs there at the same time."""
    job = _number(environment, "SLURM_JOB_ID", 0)
    step = _number({"SLURM_STEP_ID": "0", **environment}, "SLURM_STEP_ID", 0)
    return _FIRST_PORT + (_STEPS * job + step) % _PORTS


def _of_mpi(environment: Environment) -> Group:
    size = _number(environment, "OMPI_COMM_WORLD_SIZE", 1)
    if size == 1:
        return ALONE
    rank = _rank(environment, "OMPI_COMM_WORLD_RANK", size)
    local = _number(environment, "OMPI_COMM_WORLD_LOCAL_RANK", 0)
    return Group(rank, size, _address(environment), local)


def _of_msrun(environment: Environment) -> Group:
    """Return the group of msrun's workers.

    The scheduler runs the same program, as one more rank 0, until it meets the others.
    """
    size = _number(environment, "MS_WORKER_NUM", 1)
    if size == 1:
        return ALONE
    role = environment[_ROLE]
    if role not in _ROLES:
        raise BackendError(problem(_ROLE, role or '""', f"must be {' or '.join(_ROLES)}"))
    is_worker = role == _ROLES[0]
    rank = _rank(environment, "MS_NODE_ID", size) if is_worker else 0
    local = _number(environment, "DEVICE_ID", 0) if "DEVICE_ID" in environment else 0
    host = environment.get("MS_SCHED_HOST", "")
    if not host:
        remedy = "set it to the host of the scheduler"
        rule = "is not set, though other processes are spoken of"
        raise BackendError(f"MS_SCHED_HOST: {rule}; {remedy}")
    return Group(rank, size, f"{host}:{_port(environment, 'MS_SCHED_PORT')}", local, "msrun")


def _of_tpu_pod(environment: Environment) -> Group:
    """Return the group of a pod's hosts; each process has all the chips of its host."""
    hosts = [host for host in environment["TPU_WORKER_HOSTNAMES"].split(",") if host]
    if len(hosts) < 2:
        return ALONE
    rank = _rank(environment, "TPU_WORKER_ID", len(hosts))
    return Group(rank, len(hosts), f"{hosts[0]}:{_TPU_PORT}")


_STARTERS: dict[str, Callable[[Environment], Group]] = {
    _ROLE: _of_msrun,
    "WORLD_SIZE": _of_torchrun,
    "OMPI_COMM_WORLD_SIZE": _of_mpi,
    # Of a step alone: in a batch script, outside srun, SLURM_NTASKS is there, too.
    "SLURM_STEP_NUM_TASKS": _of_slurm,
    "TPU_WORKER_HOSTNAMES": _of_tpu_pod,
}
"""By the variable that each of them sets."""


def _number(environment: Environment, name: str, least: int) -> int:
    text = environment.get(name)
    if text is None:
        raise BackendError(f"{name}: is not set, though other processes are spoken of; set it")
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise BackendError(problem(name, text or '""', f"must be a whole number >= {least}"))
    return int(text)


def _rank(environment: Environment, name: str, size: int) -> int:
    rank = _number(environment, name, 0)
    if rank >= size:
        raise BackendError(problem(name, rank, f"must be below the number of processes, {size}"))
    return rank


def _address(environment: Environment) -> str:
    host = environment.get("MASTER_ADDR", "")
    if not host:
        remedy = "set it to the host of rank 0"
        raise BackendError(
            f"MASTER_ADDR: is not set, though other processes are spoken of; {remedy}"
        )
    return f"{host}:{_port(environment, 'MASTER_PORT')}"


def _port(environment: Environment, name: str) -> int:
    port = _number(environment, name, 1)
    if port > _LAST_PORT:
        raise BackendError(problem(name, port, f"must be 1..{_LAST_PORT}"))
    return port


def _first_host(hosts: str) -> str:
    """Return the first of SLURM's hosts, as `node07` of `node[07-09,12],other`."""
    host = re.sub(r"\[([^\[\],-]+)[^\[\]]*\]", r"\1", hosts).partition(",")[0]
    if not host or {"[", "]"} & set(host):
        raise BackendError("SLURM_STEP_NODELIST: names no host; set MASTER_ADDR to that of rank 0")
    return host
