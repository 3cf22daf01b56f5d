"""A person's own `nn.Cell` in the place of a session, in the cell's own names and layouts.

Nothing is required of the cell but that it maps images [N, C, H, W] to logits, or to a tuple that
begins with them. Runs op by op (PyNative), where cells can be hooked. The core gives its parameters
their canonical names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from resnet_spec.contract import Array, Batch, Precision, State
from resnet_spec.errors import BackendError, problem
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.session_steps import compared_with
from resnet_spec_mindspore.devices import describe_environment, find_device
from resnet_spec_mindspore.graphs import Normalise, mode
from resnet_spec_mindspore.losses import loss_of
from resnet_spec_mindspore.modules import training
from resnet_spec_mindspore.weights import Parameters, copy_into, to_array, to_state, to_tensor

Seen = dict[str, list[Array]]
"""Path of a cell -> what it returned, call by call; "" is the model, with its logits."""


def wrap(
    model: nn.Cell,
    plan: Plan,
    *,
    recipe: Recipe | None = None,
    precision: Precision = "float32",
) -> Model:
    """Return `model` as the core compares it.

    plan: for the normalisation of the images; recipe: for its loss.

    Raises BackendError for a precision other than float32.
    """
    if precision != "float32":
        rule = "is not compared with a MindSpore cell"
        raise BackendError(problem("precision", precision, rule, "use float32"))
    return Model(model, plan, recipe)


class Model:
    """A cell with what a comparison asks of it; every pass leaves it as it was."""

    def __init__(self, model: nn.Cell, plan: Plan, recipe: Recipe | None) -> None:
        self.native = model
        self._recipe, self._classes = recipe, plan.classes
        self._loss_of: Any = loss_of(recipe)
        self._normalise: Any = Normalise(plan.input)
        self.info: Mapping[str, str] = describe_environment(
            find_device("auto"), "float32", "pynative"
        )

    def tensors(self) -> State:
        """Return copies of parameters and statistics by the cell's own names."""
        return to_state(self._parameters())

    def assign(self, state: Mapping[str, Array]) -> None:
        """Copy `state`, whose names and shapes are the cell's, into it."""
        copy_into(self._parameters(), state)

    def modules(self) -> frozenset[str]:
        """Return the paths of all cells."""
        return frozenset(name for name, _ in self.native.cells_and_names() if name)

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield evaluation-mode logits [N, classes] per batch, in order."""
        for batch in batches:
            with self._pass(train=False):
                logits = to_array(_logits(self.native(self._images(batch))))
            yield logits

    def gradients(self, batch: Batch, names: Sequence[str]) -> tuple[float, State]:
        """Return the loss in training mode and its gradient by the parameters `names`."""
        parameters = self._parameters()
        wanted = [parameters[name] for name in names]

        def loss_of(images: Tensor) -> Tensor:
            return self._loss(_logits(self.native(images)), batch)

        with self._pass(train=True), _trained(wanted):
            run: Any = ms.value_and_grad(loss_of, None, tuple(wanted))  # pyright: ignore[reportArgumentType]
            loss, found = run(self._images(batch))
            gradients = dict(zip(names, map(to_array, found), strict=True))
            return float(loss.asnumpy()), gradients

    def outputs(self, batch: Batch, paths: Iterable[str], train: bool) -> Seen:
        """Return what the cells at `paths` put out, call by call."""
        seen: Seen = {path: [] for path in paths}

        def keep(path: str, cell: nn.Cell, inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                seen[path].append(to_array(output))

        with self._pass(train), self._hooked(seen, keep):
            logits = _logits(self.native(self._images(batch)))
            return {**seen, "": [to_array(logits)]}

    def output_gradients(self, batch: Batch, paths: Iterable[str]) -> tuple[Array, Seen]:
        """Return the loss's gradient by the normalised images, and by the outputs at `paths`.

        Each output has zeros added to it, and the gradient is taken by those.
        """
        shown = self.outputs(batch, paths, train=True)
        places = [(path, call) for path, calls in shown.items() for call in range(len(calls))]
        zeros = [Tensor(np.zeros_like(shown[path][call])) for path, call in places]
        added: dict[tuple[str, int], Tensor] = {}
        calls: dict[str, int] = {}

        def add(path: str, cell: nn.Cell, inputs: object, output: object) -> object:
            if not isinstance(output, Tensor):
                return output
            call = calls.get(path, 0)
            calls[path] = call + 1
            return output + added[path, call]

        def loss_of(images: Tensor, *more: Tensor) -> Tensor:
            calls.clear()
            added.update(zip(places, more, strict=True))
            return self._loss(_logits(self.native(images)) + added["", 0], batch)

        with self._pass(train=True), self._hooked((path for path in shown if path), add):
            inputs = (self._images(batch), *zeros)
            run: Any = ms.grad(loss_of, tuple(range(len(inputs))))  # pyright: ignore[reportArgumentType]
            by_image, *found = map(to_array, run(*inputs))
        seen: Seen = {path: [] for path in shown}
        for (path, _), gradient in zip(places, found, strict=True):
            seen[path].append(gradient)
        return by_image, seen

    def statistics(self, batch: Batch) -> State:
        """Return the parameters after one pass in training mode."""
        with self._pass(train=True):
            self.native(self._images(batch))
            return self.tensors()

    def _parameters(self) -> Parameters:
        found = self.native.parameters_and_names()
        return {name: p for name, p in found if p.dtype in (ms.float32, ms.float16, ms.bfloat16)}

    @contextmanager
    def _pass(self, train: bool) -> Iterator[None]:
        """Run op by op in the given mode; undo, at the end, what it did to the statistics."""
        parameters = self._parameters()
        before = to_state(parameters) if train else {}
        with mode(ms.PYNATIVE_MODE), training(self.native, train):
            try:
                yield
            finally:
                copy_into(parameters, before)

    @contextmanager
    def _hooked(self, paths: Iterable[str], hook: Callable[..., Any]) -> Iterator[None]:
        cells = dict(self.native.cells_and_names())
        with ExitStack() as stack:
            for path in paths:
                handle = cells[path].register_forward_hook(partial(hook, path))
                stack.callback(handle.remove)
            yield

    def _images(self, batch: Batch) -> Tensor:
        """Return normalised images [N, C, H, W]."""
        images = batch.images
        is_raw = images.dtype == np.uint8
        return self._normalise(to_tensor(images if is_raw else images.astype(np.float32)))

    def _loss(self, logits: Tensor, batch: Batch) -> Tensor:
        labels, *shares = compared_with(batch, self._recipe, self._classes)
        given = [array.astype(np.float32) for array in shares if array is not None]
        return self._loss_of(logits, *map(to_tensor, given or [labels.astype(np.int32)]))


@contextmanager
def _trained(parameters: Iterable[Parameter]) -> Iterator[None]:
    """Let gradients reach `parameters`, frozen ones too."""
    before = [(parameter, parameter.requires_grad) for parameter in parameters]
    try:
        for parameter, _ in before:
            parameter.requires_grad = True
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad = required


def _logits(output: Any) -> Any:
    """Return the logits of a cell that returns them, or them first among others."""
    return output[0] if isinstance(output, tuple | list) else output
