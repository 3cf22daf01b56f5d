"""Parameters, slots and averages in parts, one in each process, on FSDP2 (`fully_shard`).

Imported where a session is to be sharded, and not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from resnet_spec.errors import BackendError
from resnet_spec.group import Group
from resnet_spec.plan import Plan
from resnet_spec_torch.group import Several
from resnet_spec_torch.modules import empty
from resnet_spec_torch.weights import is_sharded, weights_of, whole_of

try:
    from torch.distributed.fsdp import fully_shard
except ImportError:
    raise BackendError(f"--shard: needs torch 2.6, this is {torch.__version__}") from None


class Sharded(Several):
    """As among several, each of which keeps a part of every parameter.

    A block's parameters are whole while it runs, forward and backward. Running statistics are
    small, and whole in every process.
    """

    def __init__(self, plan: Plan, group: Group, device: torch.device) -> None:
        super().__init__(plan, group, device)
        self._plan, self._device = plan, device

    def placed(self, network: nn.Module, memory_format: torch.memory_format) -> nn.Module:
        """Return `network` in parts, whose modules stay; FSDP2 takes contiguous ones alone."""
        self._network, self._format = network, memory_format
        mesh = init_device_mesh(self._device.type, (self.size,))
        # Also the root's parameters, which FSDP2 would leave whole after a pass without a backward.
        kinds: Any = {"mesh": mesh, "reshard_after_forward": True}
        network.register_forward_hook(_with_own_memory)
        for part in (*(network.get_submodule(block.name) for block in self._plan.blocks), network):
            fully_shard(part, **kinds)
        return network

    def wrapped(self, network: nn.Module) -> nn.Module:
        """Return `network`, which sends its gradients.

        Raises BackendError for a parameter that is not in parts.
        """
        for name, parameter in network.named_parameters():
            if not is_sharded(parameter):
                rule = "was replaced in a session that shards; replace it in a session without"
                raise BackendError(f"native.{name}: {rule}")
        return network

    def part(self, network: Any, *, is_last: bool) -> AbstractContextManager[None]:
        """Send gradients with the last part alone: they add up until then."""
        network.set_requires_gradient_sync(is_last)
        network.set_is_last_backward(is_last)
        return nullcontext()

    def gradients(self, loss: Tensor, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the parts of the gradients, means over processes: FSDP2 has them in `grad`."""
        before = [parameter.grad for parameter in parameters]
        try:
            for parameter in parameters:
                parameter.grad = None
            loss.backward()
            return [parameter.grad for parameter in parameters if parameter.grad is not None]
        finally:
            for parameter, gradient in zip(parameters, before, strict=True):
                parameter.grad = gradient

    def send(self, parameters: object) -> None:
        """Send nothing: the gradients are means already."""

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace the tensors that are not in parts by their means over the processes."""
        super().mean([tensor for tensor in tensors if not is_sharded(tensor)])

    def evaluated(self, network: object) -> nn.Module:
        """Return a whole copy, which all processes make; in it they do not wait for each other."""
        del network
        weights = weights_of(self._network, self._plan)
        dtype = next(iter(weights.values())).dtype
        copy: Any = empty(self._plan, self._device, dtype)
        copy.to(memory_format=self._format)
        with torch.no_grad():
            for name, tensor in weights_of(copy, self._plan).items():
                tensor.copy_(whole_of(weights[name]))
        return copy.eval()


def _with_own_memory(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    """Return logits that are no view, as a flattening gives: FSDP2 warns of those."""
    return output.clone() if output._base is not None else output
