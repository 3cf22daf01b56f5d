"""A ResNet that somebody else could have written in torch, against a spec: right, and with bugs."""

from __future__ import annotations

from typing import Any

import pytest
from cases import CASES

from resnet_spec.errors import BackendError, CheckpointError
from resnet_spec.parity.own import compare
from resnet_spec.parity.wrapping import wrap
from resnet_spec.reporting.report import Report

torch = pytest.importorskip("torch", reason="the torch backend is not installed")
F = torch.nn.functional
nn = torch.nn
CASE = CASES["imagenet_stem"]


class SharedRelu(nn.Module):  # pyright: ignore[reportGeneralTypeIssues,reportUntypedBaseClass]
    """torchvision's basic block: one relu module, called twice, in place."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.downsample = None
        if stride != 1 or inner != outer:
            self.downsample = nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
            )

    def forward(self, x: Any) -> Any:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class FunctionalRelu(SharedRelu):
    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__(inner, outer, stride)
        del self.relu

    def forward(self, x: Any) -> Any:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class OneReluOfTwo(SharedRelu):
    """The module is called once, and the first time it is the function: calls do not count up."""

    def forward(self, x: Any) -> Any:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Network(nn.Module):  # pyright: ignore[reportGeneralTypeIssues,reportUntypedBaseClass]
    """CASES["imagenet_stem"], by hand."""

    def __init__(self, block: Any = SharedRelu) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(block(8, 8, 1), block(8, 8, 1))
        self.layer2 = nn.Sequential(block(8, 12, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Any) -> Any:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(x, 1))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def compared(model: Any, **more: Any) -> Report:
    return compare(model, CASE.spec, "torchvision", **more)


@pytest.mark.parametrize("block", [SharedRelu, FunctionalRelu, OneReluOfTwo])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_right_network_agrees_at_every_level(block: Any, precision: Any) -> None:
    model = Network(block).eval()
    report = compared(model, precision=precision)
    assert {row.level for row in report.rows} >= {"logits", "activations", "gradients"}
    assert {row.level for row in report.rows} >= {"train_logits", "statistics", "shapes"}
    assert {row.verdict for row in report.rows} <= {"equal", "rounding"}
    assert not model.training
    assert not any(model.state_dict()[name].any() for name in ("bn1.running_mean",))


@pytest.mark.parametrize(
    ("block", "hidden"),
    [
        # Additions and the stem's activation are functions in all three.
        (SharedRelu, set()),
        (FunctionalRelu, {"layer1.0.act1", "layer1.1.act1", "layer2.0.act1"}),
        (OneReluOfTwo, {"layer1.0.act1", "layer1.1.act1", "layer2.0.act1"}),
    ],
)
def test_the_nodes_that_show(block: Any, hidden: set[str]) -> None:
    own: Any = wrap(Network(block), CASE.plan, "torchvision")
    additions = {name for name in CASE.plan.observed if name.endswith(".add")}
    shown = dict(own.activations(_batch(), train=True))
    assert set(CASE.plan.observed) - set(shown) == additions | hidden | {"act1"}
    assert list(shown)[-1] == "fc"


def _batch() -> Any:
    from resnet_spec.parity.setup import make_setup

    return make_setup(CASE.plan).batches[0]


def _changed(change: Any) -> Any:
    model = Network()
    change(model)
    return model


BUGS = {
    "max-pool without padding, ceiling": (
        lambda m: setattr(m, "maxpool", nn.MaxPool2d(3, 2, 0, ceil_mode=True)),
        "maxpool",
    ),
    "eps of one norm": (lambda m: setattr(m.layer1[1].bn2, "eps", 1e-2), "layer1.1.bn2"),
    "padding of one convolution": (
        lambda m: setattr(
            m.layer2[0], "conv1", _shifted(m.layer2[0].conv1)
        ),
        "layer2.0.conv1",
    ),
}  # fmt: skip


def _shifted(conv: Any) -> Any:
    """Return a convolution that pads (0, 2, 0, 2) instead of (1, 1, 1, 1)."""

    class Shifted(nn.Conv2d):  # pyright: ignore[reportGeneralTypeIssues,reportUntypedBaseClass]
        def forward(self, input: Any) -> Any:
            padded = F.pad(input, (0, 2, 0, 2))
            return F.conv2d(padded, self.weight, None, self.stride)

    shifted = Shifted(conv.in_channels, conv.out_channels, 3, 2, bias=False)
    shifted.load_state_dict(conv.state_dict())
    return shifted


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found_at_its_node(bug: str) -> None:
    change, node = BUGS[bug]
    report = compared(_changed(change))
    assert any(row.is_wrong for row in report.rows if row.level == "logits")
    assert node in {finding.node for finding in report.findings}


def test_a_mapping_takes_the_place_of_a_scheme() -> None:
    class Renamed(nn.Module):  # pyright: ignore[reportGeneralTypeIssues,reportUntypedBaseClass]
        def __init__(self) -> None:
            super().__init__()
            inner = Network()
            self.stem, self.norm, self.pool = inner.conv1, inner.bn1, inner.maxpool
            self.layer1, self.layer2 = inner.layer1, inner.layer2
            self.classifier = inner.fc

        def forward(self, x: Any) -> Any:
            x = self.pool(F.relu(self.norm(self.stem(x))))
            return self.classifier(self.layer2(self.layer1(x)).mean((2, 3)))

    names = {"conv1": "stem", "bn1": "norm", "maxpool": "pool", "fc.weight": "classifier.weight"}
    with pytest.raises(CheckpointError):
        wrap(Renamed(), CASE.plan, "timm")
    own: Any = wrap(Renamed(), CASE.plan, names)
    assert {"conv1", "bn1", "maxpool", "fc"} <= dict(own.activations(_batch())).keys()
    with pytest.raises(CheckpointError, match=r"names = conv11: is no name .* 'conv1'"):
        wrap(Renamed(), CASE.plan, {"conv11": "stem"})


def test_every_tensor_that_does_not_fit_is_listed() -> None:
    model = Network()
    model.head, model.fc = model.fc, nn.Identity()
    model.bn1 = nn.BatchNorm2d(9)
    with pytest.raises(CheckpointError) as raised:
        wrap(model, CASE.plan, "timm")
    lines = raised.value.problems
    assert "fc.bias: is missing; did you mean 'head.bias'?" in lines
    assert "head.weight: is unexpected; did you mean 'fc.weight'?" in lines
    assert "bn1.running_var = [9]: must have shape [8]" in lines
    assert len(lines) == 8


def test_the_right_scheme_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"names = hf: .* use names = timm"):
        wrap(Network(), CASE.plan, "hf")
    with pytest.raises(CheckpointError, match=r"names = tim: is no naming scheme; .*'timm'"):
        wrap(Network(), CASE.plan, "tim")


def test_what_the_model_raises_is_one_line() -> None:
    model = Network()
    model.fc = nn.Linear(12, 5)
    own: Any = wrap(model, CASE.plan)
    model.avgpool = nn.AdaptiveAvgPool2d(2)
    with pytest.raises(BackendError, match=r"model = Network: gradients fails in it: Runtime"):
        own.gradients(_batch())


def test_frozen_weights_have_gradients_and_stay_frozen() -> None:
    model = Network()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    own: Any = wrap(model, CASE.plan)
    _, found = own.gradients(_batch())
    assert all(gradient.any() for gradient in found.values())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_weights_that_are_no_numbers_are_named() -> None:
    def spoil(model: Any) -> None:
        model.layer1[0].conv2.weight.data[0, 0, 0, 0] = float("nan")

    line = r"^model: layer1\.0\.conv2\.weight has values that are not finite"
    with pytest.raises(BackendError, match=line):
        compared(_changed(spoil))
