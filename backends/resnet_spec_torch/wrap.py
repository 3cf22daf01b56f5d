"""A person's own `nn.Module` in the place of a session, in the module's own names and layouts.

Nothing is required of the module but that it maps images [N, C, H, W] to logits, or to an object or
tuple that begins with them. The core gives its tensors their canonical names.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from resnet_spec.contract import Array, Batch, Precision, State
from resnet_spec.errors import BackendError, problem
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.session_steps import compared_with
from resnet_spec_torch.devices import describe, math_of
from resnet_spec_torch.losses import loss_of
from resnet_spec_torch.passes import hooked, mode, unchanged
from resnet_spec_torch.weights import Tensors, copy_into, to_array, to_state, to_tensor

_DTYPES = {"float32": torch.float32, "float64": torch.float64}

Seen = dict[str, list[Array]]
"""Path of a module -> what it returned, call by call; "" is the model, with its logits."""


def wrap(
    model: nn.Module,
    plan: Plan,
    *,
    recipe: Recipe | None = None,
    precision: Precision = "float32",
) -> Model:
    """Return `model` as the core compares it; it stays on its device.

    plan: for the normalisation of the images; recipe: for its loss.
    precision: float32 or float64. A module in another one is copied into it.

    Raises BackendError for another precision.
    """
    if precision not in _DTYPES:
        rule = "is not compared"
        raise BackendError(problem("precision", precision, rule, "use float32 or float64"))
    dtype = _DTYPES[precision]
    floating = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    if any(tensor.dtype != dtype for tensor in floating):
        model = copy.deepcopy(model).to(dtype)
    return Model(model, plan, recipe, precision)


class Model:
    """A module with what a comparison asks of it; every pass leaves it as it was."""

    def __init__(
        self, model: nn.Module, plan: Plan, recipe: Recipe | None, precision: Precision
    ) -> None:
        self.native = model
        self._recipe, self._classes = recipe, plan.classes
        self._loss_of = loss_of(recipe)
        self._dtype = _DTYPES[precision]
        first = next(iter(model.state_dict().values()), torch.empty(0))
        self._device = first.device
        self._scale, self._shift = (
            torch.tensor(values, dtype=self._dtype, device=self._device).view(1, -1, 1, 1)
            for values in (plan.input.scale, plan.input.shift)
        )
        self.info: Mapping[str, str] = {
            "framework": "torch",
            "version": torch.__version__,
            "device": describe(self._device),
            "precision": precision,
            "math": math_of(self._device, precision),
            "threads": str(torch.get_num_threads()),
        }

    def tensors(self) -> State:
        """Return copies of parameters and statistics by the module's own names."""
        return to_state(self._tensors())

    def assign(self, state: Mapping[str, Array]) -> None:
        """Copy `state`, whose names and shapes are the module's, into it."""
        copy_into(self._tensors(), state)

    def modules(self) -> frozenset[str]:
        """Return the paths of all modules."""
        return frozenset(name for name, _ in self.native.named_modules() if name)

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield evaluation-mode logits [N, classes] per batch, in order."""
        for batch in batches:
            with torch.no_grad(), mode(self.native, training=False):
                yield to_array(_logits(self.native(self._images(batch))))

    def gradients(self, batch: Batch, names: Sequence[str]) -> tuple[float, State]:
        """Return the loss in training mode and its gradient by the tensors `names`."""
        tensors = self._tensors()
        wanted = [tensors[name] for name in names]
        with unchanged(self.native), mode(self.native, training=True), _trained(wanted):
            loss = self._loss(self.native(self._images(batch)), batch)
            found = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
        return loss.item(), to_state(dict(zip(names, found, strict=True)))

    def outputs(self, batch: Batch, paths: Iterable[str], train: bool) -> Seen:
        """Return what the modules at `paths` put out, call by call."""
        seen: Seen = {path: [] for path in paths}

        def keep(path: str, module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                seen[path].append(to_array(output))

        with torch.no_grad(), unchanged(self.native), mode(self.native, training=train):
            with hooked(self.native, seen, keep):
                logits = _logits(self.native(self._images(batch)))
            return {**seen, "": [to_array(logits)]}

    def output_gradients(self, batch: Batch, paths: Iterable[str]) -> tuple[Array, Seen]:
        """Return the loss's gradient by the normalised images, and by the outputs at `paths`."""
        found: dict[str, list[Tensor]] = {path: [] for path in paths}

        def ask(path: str, module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                found[path].append(torch.zeros_like(output))
                # A hook on the tensor sees the gradient by this value, also where the next
                # module overwrites it in place.
                output.register_hook(partial(found[path].__setitem__, len(found[path]) - 1))

        with unchanged(self.native), mode(self.native, training=True):
            images = self._images(batch).requires_grad_()
            with hooked(self.native, found, ask):
                logits = _logits(self.native(images))
            loss = self._loss(logits, batch)
            by_image, by_logits = torch.autograd.grad(loss, (images, logits))
        seen = {path: list(map(to_array, calls)) for path, calls in found.items()}
        return to_array(by_image), {**seen, "": [to_array(by_logits)]}

    def statistics(self, batch: Batch) -> State:
        """Return the tensors after one pass in training mode."""
        with torch.no_grad(), unchanged(self.native), mode(self.native, training=True):
            self.native(self._images(batch))
            return self.tensors()

    def _tensors(self) -> Tensors:
        """Return the live tensors; counters, as `num_batches_tracked`, are none."""
        tensors = self.native.state_dict(keep_vars=True)
        return {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}

    def _images(self, batch: Batch) -> Tensor:
        """Return normalised images [N, C, H, W] on the model's device."""
        images = to_tensor(batch.images).to(self._device).permute(0, 3, 1, 2)
        normalised = images.to(self._dtype, copy=True)
        if images.dtype == torch.uint8:
            normalised = normalised.mul_(self._scale).add_(self._shift)
        return normalised.contiguous()

    def _loss(self, output: object, batch: Batch) -> Tensor:
        labels, *shares = compared_with(batch, self._recipe, self._classes)
        targets, soft = (
            None if array is None else to_tensor(array).to(self._device, self._dtype)
            for array in shares
        )
        return self._loss_of(_logits(output), to_tensor(labels).to(self._device), targets, soft)


@contextmanager
def _trained(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Let gradients reach `tensors`, frozen ones too."""
    before = [(tensor, tensor.requires_grad) for tensor in tensors]
    try:
        for tensor, _ in before:
            tensor.requires_grad_(True)
        yield
    finally:
        for tensor, required in before:
            tensor.requires_grad_(required)


def _logits(output: Any) -> Tensor:
    """Return the logits of a model that returns them, or them among others."""
    if isinstance(output, Tensor):
        return output
    return output.logits if hasattr(output, "logits") else output[0]
