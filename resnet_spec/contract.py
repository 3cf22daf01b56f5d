"""The contract between the core and a backend: the one file a backend's author reads.

A backend is an importable package that offers

    Session                         the class below
    build(plan, state=None)         the framework's own module, float32, on the CPU
    PRECISIONS = ("float32", ...)   what `Session(precision=...)` accepts
    abstract_shapes(plan)           optional: {canonical name: shape}, without the memory
    output_shape(plan, batch)       optional: the logits' shape, where possible without computing
    export.write, export.read       optional: a module `export`, as `exporting.Exporter` says, for
                                    the formats of its manifest
    join(group)                     optional: meets the other processes of a `group.Group` and
                                    returns the `group.Members`; called before any array is made.
                                    All are there then, and are to do the same; nobody listens at
                                    the address, unless `group.served_by` says who does
    prepare(group)                  optional: begins, before the processes meet, what `join` would
                                    else have them wait for
    check_ahead(device, precision)  optional, beside `join`: raises BackendError, before the
                                    processes meet, for what no session here can have, as far as it
                                    shows without touching an accelerator
    is_met(group)                   optional, beside `join`: whether the framework has brought the
                                    processes together already, so that they need not meet before

    manifest.toml                   what the package needs, computes in and can do beside, as data
                                    that is read without importing it (`manifest.Manifest`);
                                    without one the package offers REQUIRES = ("torch",), too:
                                    the importable names it needs
    conditions.py                   optional: a file that imports no framework and nothing of the
                                    package, with `conditions() -> list[str]`: what is known to be
                                    slow or wrong on this machine, `where = value: rule; remedy`,
                                    and `of_framework()`, which may import the framework

and is found by its entry point in the group `resnet_spec.backends`. It imports its framework, numpy
and `contract`, `group`, `session_state`, `session_steps` (what every session does without its
framework), `compile_cache`, `freed_memory`, `digests`, `bench`, `folding`, `losses`, `ops`,
`optimizers`, `plan`, `recipe` and `errors` of the core; nothing else.

Everything that crosses the border is NumPy: images NHWC, weights in canonical layout (conv OIHW,
linear [out, in]) under canonical names, activations NCHW.

A session may offer `gradients_with_outputs(batch) -> (loss, gradients, by_images, outputs)`, one
pass for what `gradients`, the first of `node_gradients` and `activations(batch, train=True)` give;
comparisons are quicker with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_spec.group import ALONE, Group
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe

Array = NDArray[Any]
State = dict[str, Array]
"""Canonical name -> array, C-contiguous, owned by the receiver.

float32, or float64 in float64 sessions.

Keys: every tensor of the plan; with a recipe also the slots of its optimiser, family by family
(`optimizers.slots_of`: of a frozen tensor there are none) and, with a `recipe.ema.decay` above 0,
`ema/<name>` for every tensor of the plan. A float16 session adds `loss_scale/scale` and
`loss_scale/good_steps`, shape (). `session_state.state_shapes` returns them all.
"""

Precision = Literal["float32", "float64", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True)
class Mix:
    """What was mixed into the images of a batch (see `data.mixing`).

    labels: int64 [N], of the images that were mixed in. share: float64 [N], how much of each image
    is its own, in 0..1.
    """

    labels: NDArray[np.int64]
    share: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Images with their labels, and the random choices that made them.

    images: [N, H, W, C]; uint8 is normalised by the session with `plan.input`'s scale and shift,
        floating point is taken as normalised already.
    labels: int64 [N]; -1 where unknown.
    indices: int64 [N], the samples' places in their split.
    noise: name of a `Dropout` or `DropPath` op -> float32 factors, [N, C] or [N], for training.
    mix: what was mixed into the images, whose `labels` are then those of their own part.
    teacher: the logits of the recipe's teacher of these very images, float32 [N, classes] in the
        order of the plan's classes; given in training where there is `recipe.loss.teacher`.
    """

    images: Array
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    crop: NDArray[np.int64] | None = None
    """[N, 2], the top-left corner (y, x) in the padded image; None when not cropped."""
    flip: NDArray[np.bool_] | None = None
    """[N], whether the image was mirrored left to right; None when never."""
    noise: Mapping[str, NDArray[np.float32]] = field(default_factory=dict[str, Any])
    mix: Mix | None = None
    teacher: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class StepLog:
    """What a chunk of training steps reports, fetched from the device once, at its end.

    loss: float64 [steps], the mean training loss of each step's batch (smoothing included, decay
        not), taken before the step's update.
    correct: int64 [steps], how many training images had their label as arg-max of the logits; of
        a mixed image, the label of its greater part.
    count: int64 [steps], images in each step.
    """

    loss: NDArray[np.float64]
    correct: NDArray[np.int64]
    count: NDArray[np.int64]


class Session(Protocol):
    """One plan lowered on one device in one framework, with its optimiser state.

    A fresh session holds no meaningful weights: `load` is called before use.
    """

    native: Any
    """The `nn.Module` / `nnx.Module` / `nn.Cell`, usable without this project."""
    info: Mapping[str, str]
    """framework, version, device, precision, math (fast-math mode in force, or "strict"), and what
    else a reader of the numbers should know, as MindSpore's `isa`."""

    def __init__(
        self,
        plan: Plan,
        recipe: Recipe | None = None,
        *,
        device: str = "auto",
        precision: Precision = "float32",
        compile: bool = False,
        group: Group = ALONE,
        shard: bool = False,
    ) -> None:
        """Lower `plan` on `device`.

        recipe: needed by `train`, and for its loss by `gradients` (None: cross-entropy). Where it
            needs targets the manifest's `losses` has its kind, and where it has a teacher the
            manifest says `teachers = true`.
        device: "auto" takes the best there is; otherwise the framework's own word, as "cuda:0".
        precision: bfloat16 and float16 compute in it with float32 parameters and statistics.
        compile: torch only: run through `torch.compile`; the others always compile.
        group: given only where the package offers `join` and there are several processes. Then
            `gradients`, `train` and `state` are called by all of them, with this process's share
            of each batch (`Group.shares`), and give what one process gives for the whole batch:
            gradients, losses and hits are brought together once a step, and with `norm.sync` of
            "global" a norm takes the statistics of the samples of all processes. With "replica"
            each takes its own, and the running statistics are the mean over processes. The rest is
            each process's own affair.
        shard: given only where the manifest says `shards = true`, and is wanted. Parameters and
            optimiser slots then lie in parts on the devices that train together, and are brought
            together as they are used; nothing else changes: `state` gives all of them whole. Where
            there are several processes, all of them call every method, and `predict` with as many
            batches as each has.

        `plan.remat` names blocks whose activations are computed again in the backward pass; the
        session does so where its framework can, to the same numbers.

        Raises BackendError for a device or precision that cannot be had.
        """
        ...

    def state(self) -> State:
        """Return a copy of weights, statistics and optimiser slots (see `State`)."""
        ...

    def load(self, state: Mapping[str, Array]) -> None:
        """Take over `state`: the plan's tensors, and optimiser slots where present, else fresh.

        A fresh average equals the weights; how other slots start, `optimizers.Slot.first` says.
        Raises CheckpointError that lists every missing, unexpected and misshapen name (see
        `session_state.whole_state`); nothing is changed then.
        """
        ...

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield evaluation-mode logits [N, classes] per batch, in order."""
        ...

    def gradients(self, batch: Batch) -> tuple[float, State]:
        """Return the loss in training mode and its gradient by trainable name; changes nothing.

        The loss is the mean smoothed cross-entropy of the labels, or, where `recipe.needs_targets`,
        that of `recipe.loss.kind` with the targets that `session_steps.Intake` makes of a batch,
        and with the teacher's where there is `recipe.loss.teacher`; `losses.Loss` says how each is
        computed. Weight decay is not part of it.
        """
        ...

    def activations(self, batch: Batch, train: bool = False) -> Iterator[tuple[str, Array]]:
        """Yield (name, output) for every name of `plan.observed`, in that order; changes nothing.

        Outputs are [N, C, H, W], or [N, F] after the flattening. `train` uses batch statistics,
        except in frozen norms.
        """
        ...

    def node_gradients(self, batch: Batch) -> Iterator[tuple[str, Array]]:
        """Yield (name, gradient of `gradients`' loss by that node's output); changes nothing.

        "input" first, the gradient by the normalised images [N, C, H, W], then every name of
        `plan.observed`, in that order, in the shapes of `activations`. An output that several
        nodes read has the sum of what they send back.
        """
        ...

    def train(
        self,
        batches: Iterable[Batch],
        rates: NDArray[np.float64],
        keeps: NDArray[np.float64] | None = None,
    ) -> StepLog:
        """Take exactly len(rates) optimiser steps, one batch and one learning rate each.

        keeps: what each step keeps of the average; given only where `recipe.ema.varies`, to a
            session whose manifest says `keeps = true`. None: `recipe.ema.decay`, every step.

        `batches` may be an iterator that goes on: no more than len(rates) items are taken from it.

        With `recipe.accumulate = k` a batch is split into k equal consecutive parts whose
        gradients are averaged (each part has its own batch statistics). Per step, every trainable
        tensor and its slots move by the equation of the recipe's optimiser, a row of
        `optimizers.OPTIMIZERS`, with the decay `recipe.decay_of(tensor)` and at rate * tensor.rate.
        Before, the gradients are clipped as `optimizers.clipped` says. The equation of "sgd", for a
        tensor w with gradient g and velocity v:

            g += decay * w
            v = momentum * v + g
            w -= rate * tensor.rate * (g + momentum * v if nesterov else v)

        Then, with an average, ema = keep * ema + (1 - keep) * tensor for every tensor of the plan
        that is not frozen; with a keep of 1 the average stays as it is, bit by bit. A frozen tensor
        and its average keep their bits.

        Nothing but the batches crosses the border inside the loop; results are fetched once at the
        end.
        """
        ...
