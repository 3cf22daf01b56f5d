"""Whose time an op's is: short records of each framework's profiler, written by hand."""

from __future__ import annotations

from typing import Any

import pytest
from backend_modules import module_of

from resnet_spec import load_spec, lower
from resnet_spec.bench import Case
from resnet_spec.loader import installed_backends

PLAN = lower(load_spec("resnet20_cifar"))


def module(backend: str, name: str = "profiling") -> Any:
    if backend not in installed_backends():
        pytest.skip(f"{backend} is not installed")
    return module_of(backend, name)


def told(timings: Any) -> list[tuple[str, str, str, float]]:
    return [(t.node, t.direction, t.kind, round(t.seconds, 6)) for t in timings]


def test_torch_is_read_by_ranges_and_by_the_numbers_of_autograd() -> None:
    of = module("torch")
    ops = [
        of.Op("aten::mul", 1.0),
        of.Op("resnet_spec: ", 9.0),
        of.Op("resnet_spec: conv1", 9.0, parent=1),
        of.Op("aten::conv2d", 2.0, 7, parent=2),
        of.Op("aten::copy_", 0.5, parent=3),
        of.Op("resnet_spec: act1", 9.0, parent=1),
        of.Op("aten::relu", 3.0, 8, parent=5),
        of.Op("aten::nll_loss", 4.0, 9),
        of.Op("autograd::engine::evaluate_function: NllLossBackward0", 0.0, 9),
        of.Op("aten::nll_loss_backward", 0.25, parent=8),
        of.Op("autograd::engine::evaluate_function: ReluBackward0", 0.125, 8),
        of.Op("aten::threshold_backward", 5.0, parent=10),
        of.Op("autograd::engine::evaluate_function: ConvolutionBackward0", 0.0, 7),
        of.Op("aten::convolution_backward", 6.0, parent=12),
        of.Op("autograd::engine::evaluate_function: torch::autograd::AccumulateGrad", 0.75),
        of.Op("Optimizer.step#SGD.step", 9.0),
        of.Op("aten::_fused_sgd_", 7.0, parent=15),
        of.Op("aten::mul", 1.5),
    ]
    assert told(of.timings(ops, trains=True)) == [
        ("", "forward", "images", 1.0),
        ("conv1", "forward", "", 2.0),
        ("conv1", "forward", "copies", 0.5),
        ("act1", "forward", "", 3.0),
        ("", "forward", "loss", 4.0),
        ("", "backward", "loss", 0.25),
        ("act1", "backward", "", 0.125),
        ("act1", "backward", "", 5.0),
        ("conv1", "backward", "", 6.0),
        ("", "backward", "", 0.75),
        ("", "update", "optimizer", 7.0),
        ("", "forward", "images", 1.5),
    ]


def test_torch_takes_the_last_op_of_a_number_which_others_announce() -> None:
    of = module("torch")
    ops = [
        of.Op("aten::detach", 1.0, 3),
        of.Op("resnet_spec: conv1", 0.0),
        of.Op("aten::conv2d", 1.0, 3, parent=1),
        of.Op("autograd::engine::evaluate_function: ConvolutionBackward0", 1.0, 3),
    ]
    assert told(of.timings(ops, trains=True))[-1] == ("conv1", "backward", "", 1.0)


HLO = """\
%fused_computation.1 (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  %a.1 = f32[2]{0} add(%p, %p), metadata={op_name="jit(_backward)/jvp(layer1)/0/add/add"}
  ROOT %m.1 = f32[2]{0} maximum(%a.1, %p), metadata={op_name="jit(_backward)/jvp(layer1)/0/act2/max"}
}

%fused_computation.2 (q: f32[2,3]) -> f32[3,2] {
  %q = f32[2,3]{1,0} parameter(0)
  ROOT %t.1 = f32[3,2]{1,0} transpose(%q), dimensions={1,0}
}

%fused_computation.3 (r: f32[2]) -> f32[2] {
  %r = f32[2]{0} parameter(0)
  %c.1 = f32[2]{0} convolution(%r, %r), metadata={op_name="jit(_backward)/jvp(layer2)/0/conv1/conv_general_dilated"}
  %c.2 = f32[2]{0} convolution(%c.1, %r), metadata={op_name="jit(_backward)/jvp(layer2)/0/conv2/conv_general_dilated"}
  ROOT %s.1 = f32[2]{0} reduce(%c.2), metadata={op_name="jit(_backward)/jvp(global_pool)/reduce_sum"}
}

ENTRY %main.3 (w: f32[2,3]) -> (f32[2], f32[2]) {
  %w = f32[2,3]{1,0} parameter(0), metadata={op_name="weights['layer1.0.conv1.weight']"}
  %move = f32[3,2]{1,0} fusion(%w), kind=kLoop, calls=%fused_computation.2
  %fused = f32[2]{0} fusion(%w), kind=kLoop, calls=%fused_computation.1
  %conv.1 = f32[2]{0} convolution(%w, %move), metadata={op_name="jit(_backward)/transpose(jvp(layer1))/0/conv1/conv_general_dilated" stack_frame_id=3}
  %norm = f32[2]{0} multiply(%w), metadata={op_name="jit(_backward)/images/mul"}
  %log = f32[2]{0} log(%w), metadata={op_name="jit(_backward)/transpose(jvp(loss))/log"}
  %many = f32[2]{0} fusion(%w), kind=kCustom, calls=%fused_computation.3
  %loop = (s32[], f32[2]{0}) while(%w), condition=%c, body=%b
  ROOT %out = (f32[2], f32[2]) tuple(%fused, %conv.1)
}
"""  # noqa: E501


def test_flax_is_read_by_the_scopes_of_compiled_ops() -> None:
    of = module("flax")
    programs = of.made_of("jit__backward", HLO)
    costs = of.costs_of(PLAN)
    ops = ("move", "fused", "conv.1", "norm", "log", "many", "loop", "unknown")
    events = [of.Event("jit__backward", op, i * 1e9, (i + 1) * 1e9) for i, op in enumerate(ops)]
    events.append(of.Event("jit__updated", "fused", 10e9, 12e9))
    assert told(of.timings(events, programs, costs)) == [
        ("layer1.0.conv1", "backward", "copies", 1.0),
        ("layer1.0.act2", "forward", "", 1.0),
        ("layer1.0.conv1", "backward", "", 1.0),
        ("", "forward", "images", 1.0),
        ("", "backward", "loss", 1.0),
        ("layer2.0.conv1", "forward", "", round(1 / 3, 6)),
        ("layer2.0.conv2", "forward", "", round(2 / 3, 6)),
        ("", "", "", 1.0),
        ("", "", "", 1.0),
        ("", "update", "optimizer", 2.0),
    ]


@pytest.mark.parametrize("backend", ["flax", "mindspore"])
def test_ops_that_run_at_once_share_the_time(backend: str) -> None:
    of = module(backend)
    if backend == "flax":
        found = of.shared([of.Event("p", "a", 0.0, 4e9), of.Event("p", "b", 2e9, 3e9)])
        assert found == {("p", "a"): 3.5, ("p", "b"): 0.5}
    else:
        assert of.shared([of.Run("a", 0.0, 4.0), of.Run("b", 2.0, 3.0)]) == {"a": 3.5, "b": 0.5}


def test_flax_waits_for_ops_that_go_on_after_their_call() -> None:
    of = module("flax")

    class Thing:
        def __init__(self, **fields: Any) -> None:
            self.__dict__.update(fields)

    def event(name: str, start: float, took: float, **stats: Any) -> Thing:
        return Thing(name=name, start_ns=start, duration_ns=took, stats=list(stats.items()))

    events = [
        event("c.1", 10.0, 5.0, hlo_op="c.1", hlo_module="jit_f", _pt=0, _p=7),
        event("end: c.1", 90.0, 1.0, _ct=0, _c=7),
        event("Python", 0.0, 1.0),
        event("d.2", 20.0, 5.0, hlo_op="d.2", hlo_module="jit_f"),
    ]
    record = Thing(planes=[Thing(lines=[Thing(events=events)])])
    assert list(of.events_of(record)) == [
        ("jit_f", "c.1", 10.0, 90.0),
        ("jit_f", "d.2", 20.0, 25.0),
    ]


def _mindspore(ops: list[tuple[str, str]]) -> tuple[str, str]:
    """Return both records of ops that each take a millisecond, one after the other."""
    runs = [f"{name};HostCpuOps;{(i + 1) * 1_000_000},1.0,0 " for i, (name, _) in enumerate(ops)]
    shapes: list[str] = []
    for name, inputs in ops:
        short = name.rpartition("/")[2]
        told = "".join(f"input_{i + 1}:[{it}];" for i, it in enumerate(inputs.split("|")))
        shapes.append(f"{short.partition('-')[0]};{short};123;{told}")
    return "\n".join(runs), "\n".join(shapes)


def _read(ops: list[tuple[str, str]], mode: Any, plan: Any = PLAN) -> list[tuple[str, str, str]]:
    of = module("mindspore")
    runs, shapes = _mindspore(ops)
    case = Case(plan, "", mode, 8)
    found = list(of.timings(list(of.runs_of(runs)), of.shapes_of(shapes), case))
    assert all(t.seconds == pytest.approx(1e-3) for t in found)
    return [(t.node, t.direction, t.kind) for t in found]


def test_mindspore_is_read_by_cells_where_ops_name_them() -> None:
    block = "Default/network-ResNet/layer1-Chain/0-ResidualBlock"
    ops = [
        ("Default/normalise-Normalise/Mul-op0", "8, 32, 32, 3|3"),
        (f"{block}/conv1-Conv2d/Conv2D-op0", "8, 16, 32, 32|16, 16, 3, 3"),
        (f"{block}/conv2-Conv2d/Conv2D-op0", "8, 16, 32, 32|16, 16, 3, 3"),
        (f"{block}/conv2-Conv2d/BiasAdd-op0", "8, 16, 32, 32|16"),
    ]
    conv1, conv2 = (("layer1.0." + key, "forward", "") for key in ("conv1", "conv2"))
    assert _read(ops, "predict") == [("", "forward", "images"), conv1, conv2, conv2]


def test_mindspore_is_read_by_kind_shape_and_order_where_they_do_not() -> None:
    plan = lower(load_spec("resnet20_cifar", ["stages[0].blocks=1"]))
    forward, back = "Default/gradients-Gradients", "Gradients/Default/gradients-Gradients"
    shapes = "8, 16, 32, 32|16, 16, 3, 3"
    ops = [
        (f"{forward}/Conv2D-op0", "8, 3, 32, 32|16, 3, 3, 3"),
        (f"{forward}/Conv2D-op1", shapes),
        (f"{forward}/Conv2D-op2", shapes),
        (f"{forward}/Log-op0", "8, 10"),
        (f"{back}/Grad_MatMul/MatMul-op0", "8, 10|64, 10"),
        (f"{back}/Grad_Conv2D/Conv2DBackpropInput-op0", shapes),
        (f"{back}/Grad_Conv2D/Conv2DBackpropInput-op1", shapes),
        ("Expand/_Muls/Mul-op3", "16, 16, 3, 3|"),
        ("Default/move-Move/update-Update/optimizer-Sgd/ApplyMomentum-op1", "16"),
        (f"{back}/AddN-op0", "8, 16, 32, 32|8, 16, 32, 32"),
        (f"{forward}/ReLU-op0", "8, 16, 32, 32"),
    ]
    assert _read(ops, "train", plan) == [
        ("conv1", "forward", ""),
        ("layer1.0.conv1", "forward", ""),
        ("layer1.0.conv2", "forward", ""),
        ("", "forward", "loss"),
        ("fc", "backward", ""),
        ("layer1.0.conv2", "backward", ""),
        ("layer1.0.conv1", "backward", ""),
        ("", "update", "optimizer"),
        ("", "update", "optimizer"),
        ("", "backward", ""),
        ("", "forward", ""),
    ], "a ReLU of three that ran is of no node"


def test_mindspore_products_and_pools_are_of_the_nodes_that_they_are() -> None:
    plan = lower(load_spec("resnet18"), 32)
    forward, back = "Default/gradients-Gradients", "Gradients/Default/gradients-Gradients"
    grad = f"{back}/Grad_MatMul"
    ops = [
        (f"{forward}/MaxPool3DWithArgmax-op0", "8, 64, 1, 16, 16", "maxpool"),
        (f"{forward}/MatMul-op0", "131072, 9|9, 4", "layer4.0.conv1"),
        (f"{forward}/MatMul-op1", "8, 1024|512, 1024", "layer4.0.conv1"),
        (f"{forward}/MatMul-op2", "8, 512|512, 512", "layer4.0.conv2"),
        (f"{forward}/MatMul-op3", "2048, 4|4, 1", "layer4.0.downsample.0"),
        (f"{forward}/MatMul-op4", "8, 512|512, 512", "layer4.1.conv1"),
        (f"{forward}/MatMul-op5", "8, 512|512, 512", "layer4.1.conv2"),
        (f"{forward}/MatMul-op6", "8, 512|1000, 512", "fc"),
        (f"{grad}/MatMul-op0", "8, 1000|1000, 512", "fc"),
        (f"{grad}/MatMul-op1", "8, 1000|8, 512", "fc"),
        (f"{grad}/MatMul-op2", "8, 512|512, 256", "layer4.0.downsample.0"),
        (f"{grad}/MatMul-op3", "2048, 1|4, 1", "layer4.0.downsample.0"),
        (f"{grad}/MatMul-op4", "8, 512|8, 1024", "layer4.0.conv1"),
        (f"{grad}/MatMul-op5", "131072, 4|9, 4", "layer4.0.conv1"),
        (f"{grad}/MatMul-op6", "8, 512|8, 512", ""),
        (f"{back}/MaxPool3DGradWithArgmax-op0", "8, 64, 1, 16, 16|8, 64, 1, 8, 8", "maxpool"),
    ]
    found = _read([op[:2] for op in ops], "train", plan)
    assert [node for node, _, _ in found] == [node for _, _, node in ops], "one of three is of none"
