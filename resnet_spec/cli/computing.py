"""What weights are computed with by `predict` and `evaluate`: a backend, or an engine."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from resnet_spec.errors import BackendError, problem
from resnet_spec.running.engines import ENGINES, check_device

if TYPE_CHECKING:
    from resnet_spec.contract import Array, Precision
    from resnet_spec.describing.spec import Spec
    from resnet_spec.group import Group
    from resnet_spec.running.evaluate import Predictor


def add_computing(parser: argparse.ArgumentParser) -> None:
    """Add --backend, --engine, --device and --precision."""
    parser.add_argument("--backend", metavar="NAME", help="numpy, torch, flax, mindspore, ...")
    parser.add_argument(
        "--engine",
        choices=tuple(ENGINES),
        help="instead of a backend: export to ONNX, check that, and compute with this on the CPU",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32")


def check_computing(args: argparse.Namespace, group: Group | None = None) -> None:
    """Raise BackendError where the arguments of `add_computing` name nothing that can compute.

    group: the processes that are to compute together. Nothing is read or downloaded.
    """
    from resnet_spec.group import ALONE
    from resnet_spec.loader import check_backend

    _check_one(args)
    group = ALONE if group is None else group
    if args.engine is not None:
        _check_engine(args, group)
        return
    check_backend(args.backend)
    if group.size > 1:
        from resnet_spec.running.together import check_ahead, check_can_join

        check_can_join(args.backend, group)
        check_ahead(args.backend, args.device, args.precision, group)


def computed_with(args: argparse.Namespace) -> str:
    """Return the name of the backend or engine."""
    return args.backend if args.engine is None else args.engine


def predictor(args: argparse.Namespace, spec: Spec, state: Mapping[str, Array]) -> Predictor:
    """Return what computes the network, with its weights. Raises BackendError."""
    if args.engine is not None:
        from resnet_spec.cli.progress import StepBar
        from resnet_spec.exporting import engine_session
        from resnet_spec.exporting.engine_session import STEPS
        from resnet_spec.running.interruption import tidy_on_sigterm

        with tidy_on_sigterm(), StepBar(f"preparing {args.engine}", STEPS) as bar:
            return engine_session(spec, state, args.engine, begin=bar.step)
    from resnet_spec.loader import load_backend
    from resnet_spec.planning.lowering import lower

    make = load_backend(args.backend).Session
    precision = cast("Precision", args.precision)
    session = make(lower(spec), device=args.device, precision=precision)
    session.load(state)
    return session


def engine_notes(args: argparse.Namespace, computed: Predictor) -> tuple[str, ...]:
    """Return what a person should know of the engine that computed, one line; () for a backend."""
    if args.engine is None:
        return ()
    info = computed.info
    threads = f"{info['threads']} thread{'' if info['threads'] == '1' else 's'}"
    return (f"{args.engine} {info['version']}, {threads}, runs an export {info['export']}",)


def _check_one(args: argparse.Namespace) -> None:
    if args.backend in ENGINES:
        raise BackendError(
            problem("--backend", args.backend, "is an engine", f"use --engine {args.backend}")
        )
    if args.backend is None and args.engine is None:
        raise BackendError("--backend: is required, or --engine; see: resnet-spec backends")
    if args.backend is not None and args.engine is not None:
        raise BackendError("--backend, --engine: one of them computes; leave the other out")


def _check_engine(args: argparse.Namespace, group: Group) -> None:
    from resnet_spec.exporting import check_engine

    check_device(args.engine, args.device, "--device")
    if args.precision != "float32":
        rule = f"{args.engine} computes in float32 here"
        raise BackendError(problem("--precision", args.precision, rule, "use a backend"))
    if group.size > 1:
        rule = f"cannot be one of {group.size} processes"
        raise BackendError(problem("--engine", args.engine, rule, "start one process of it"))
    check_engine(args.engine)
