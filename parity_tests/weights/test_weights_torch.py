"""Tensors of torch, the odd ones too: bit by bit as `torch.load` has them, or refused by name."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_spec.errors import CheckpointError
from resnet_spec.weights import read_weights

torch: Any = pytest.importorskip("torch")

TYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"]
NEWER = ["uint16", "uint32", "uint64"]
BOTH = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])


def saved(path: Path, values: Any, is_zip: bool = True) -> Path:
    torch.save(values, path, _use_new_zipfile_serialization=is_zip)
    return path


def assert_as_torch_has_it(path: Path) -> None:
    """Every tensor of the file is what `torch.load` makes of it, half precision widened."""
    expected = torch.load(path, weights_only=False)
    found = read_weights(path).tensors
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        dense = value.detach().resolve_neg().contiguous()
        wide = dense.float() if dense.dtype in (torch.float16, torch.bfloat16) else dense
        array = wide.numpy()
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype), name
        assert found[name].tobytes() == array.tobytes(), name
        assert found[name].flags.c_contiguous and found[name].flags.writeable, name


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert len(caught.value.problems) == 1 and str(caught.value).isprintable()
    return str(caught.value).removeprefix(f"{path}: ")


def negated(value: Any) -> Any:
    """Return -value as a view whose negative bit is set: its storage holds `value`."""
    lazy = torch.complex(torch.zeros_like(value), value).conj().imag
    assert lazy.is_neg()
    return lazy


@BOTH
@pytest.mark.parametrize("name", ["float64", "float32"])
def test_the_negative_bit_is_honoured(name: str, is_zip: bool, tmp_path: Path) -> None:
    value = torch.arange(-3, 5).to(getattr(torch, name)).reshape(2, 4)
    values = {"lazy": negated(value), "turned": negated(value).T, "part": negated(value)[1:, ::2]}
    path = saved(tmp_path / "w.pth", {**values, "plain": value}, is_zip)
    assert_as_torch_has_it(path)
    assert np.array_equal(read_weights(path).tensors["lazy"], -value.numpy())


def test_bits_that_are_not_known_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", {"w": negated(torch.ones(2))})
    with zipfile.ZipFile(path) as archive:
        content = archive.read("w/data.pkl")
    bit = b"X\x03\x00\x00\x00neg"
    assert bit in content and content.count(b"\x88") == 1
    for changed, line in [
        (content.replace(bit, b"X\x03\x00\x00\x00gen"), "with metadata that are not known"),
        (content.replace(b"\x88", b"K\x07"), "with metadata that are not known"),
        (content.replace(bit, b"X\x04\x00\x00\x00conj"), "is conjugate or negative by a bit"),
    ]:
        with zipfile.ZipFile(tmp_path / "changed.pth", "w") as archive:
            archive.writestr("w/data.pkl", changed)
            archive.writestr("w/data/0", bytes(16))
        assert line in refusal(tmp_path / "changed.pth")


@BOTH
@pytest.mark.parametrize("name", [*TYPES, "bool"])
def test_every_type_is_read(name: str, is_zip: bool, tmp_path: Path) -> None:
    value = torch.arange(-2, 6).to(getattr(torch, name)).reshape(2, 4)
    assert_as_torch_has_it(saved(tmp_path / "w.pth", {"w": value, "t": value.T}, is_zip))


@pytest.mark.parametrize("name", NEWER)
def test_types_without_a_storage_of_their_own_are_read(name: str, tmp_path: Path) -> None:
    value = torch.arange(8).to(getattr(torch, name)).reshape(2, 4)[:, 1:]
    assert_as_torch_has_it(saved(tmp_path / "w.pth", {"w": value}))


@BOTH
def test_values_at_the_edges_keep_their_bits(is_zip: bool, tmp_path: Path) -> None:
    odd = torch.tensor([float("nan"), float("-inf"), -0.0, 1e-45, 3.4e38])
    halves = {"half": odd[1:].half(), "brain": odd[1:].bfloat16()}  # torch turns NaN's sign here.
    assert_as_torch_has_it(saved(tmp_path / "w.pth", {"odd": odd, **halves}, is_zip))


@BOTH
def test_tensors_that_share_a_storage_are_read(is_zip: bool, tmp_path: Path) -> None:
    base = torch.arange(24.0)
    windows = base.unfold(0, 5, 2)  # They overlap.
    values = {"base": base, "windows": windows, "one": base[3].expand(2, 3), "tail": base[20:]}
    assert_as_torch_has_it(saved(tmp_path / "w.pth", values, is_zip))


SIZES = st.lists(st.integers(1, 4), min_size=0, max_size=4)


@st.composite
def views(draw: st.DrawFn) -> tuple[list[int], list[int], int, str]:
    sizes = draw(SIZES)
    return (
        sizes,
        [draw(st.integers(0, 6)) for _ in sizes],
        draw(st.integers(0, 5)),
        draw(st.sampled_from(TYPES)),
    )


@given(views(), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_view_is_read_as_torch_reads_it(
    tmp_path_factory: pytest.TempPathFactory,
    view: tuple[list[int], list[int], int, str],
    is_zip: bool,
    is_parameter: bool,
) -> None:
    sizes, strides, offset, name = view
    last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    base = torch.arange(-3, last - 2).to(getattr(torch, name))
    value = torch.as_strided(base, sizes, strides, offset)
    if is_parameter and value.is_floating_point():
        value = torch.nn.Parameter(value)
        value.seen = 3  # Parameters with a state are rebuilt by another function.
    path = tmp_path_factory.getbasetemp() / "view.pth"
    assert_as_torch_has_it(saved(path, {"w": value}, is_zip))


class Marked(torch.Tensor):
    """A subclass without values of its own."""


def test_a_subclass_of_tensors_is_read(tmp_path: Path) -> None:
    value = torch.arange(6.0).reshape(2, 3).as_subclass(Marked)
    value.note = "kept in its state"
    assert_as_torch_has_it(saved(tmp_path / "w.pth", {"w": value}))


@pytest.mark.filterwarnings("ignore")  # torch warns of quantised, sparse and nested tensors.
@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: torch.ones(2, dtype=torch.complex64), "w is a torch.ComplexFloatStorage"),
        (lambda: torch.ones(2, dtype=torch.complex128).conj(), "w is a torch.ComplexDoubleStorage"),
        (lambda: torch.ones(2).to(torch.float8_e4m3fn), "w is a torch.float8_e4m3fn"),
        (lambda: torch.ones(2, device="meta"), "w is a torch._utils._rebuild_meta_tensor"),
        (lambda: torch.eye(2).to_sparse(), "w is a torch._utils._rebuild_sparse_tensor"),
        (lambda: torch.eye(2).to_sparse_csr(), "w is a torch._utils._rebuild_sparse"),
        (
            lambda: torch.quantize_per_tensor(torch.ones(2), 0.5, 1, torch.qint8),
            "w is a torch._utils._rebuild_qtensor",
        ),
        (
            lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
            "w is a torch._utils._rebuild_nested_tensor",
        ),
    ],
)
def test_other_tensors_are_refused_by_name(
    make: Callable[[], Any], line: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "w.pth", {"w": make(), "dense": torch.ones(2)})
    assert refusal(path).startswith(f"{line}")
    # Beside the weights, as in an optimiser's state, they do no harm.
    beside = saved(tmp_path / "v.pth", {"state_dict": {"w": torch.ones(2)}, "other": make()})
    assert list(read_weights(beside).tensors) == ["w"]


@pytest.mark.filterwarnings("ignore")
def test_a_complex_tensor_in_an_old_file_is_stepped_over(tmp_path: Path) -> None:
    values = {
        "other": torch.arange(5).to(torch.complex128),
        "state_dict": {"w": torch.arange(3.0)},
        "args": argparse.Namespace(lr=0.1),
    }
    path = saved(tmp_path / "w.pth", values, is_zip=False)
    assert read_weights(path).tensors["w"].tolist() == [0.0, 1.0, 2.0]


def rebuilt(function: str, data: Any, dtype: Any, **more: Any) -> Any:
    """Return an object that is pickled as a call of `torch._utils.FUNCTION(data, dtype, ...)`."""

    class Elsewhere:
        def __reduce__(self) -> Any:
            return getattr(torch._utils, function), (data, dtype, "cpu", False)

    return Elsewhere()


@pytest.mark.parametrize("function", ["numpy", "cpu_tensor"])
def test_tensors_of_other_devices_are_read_as_they_are(function: str, tmp_path: Path) -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = value if function == "numpy" else torch.from_numpy(value)
    name = f"_rebuild_device_tensor_from_{function}"
    path = saved(tmp_path / "w.pth", {"w": rebuilt(name, data, torch.float32)})
    assert_as_torch_has_it(path)
    path = saved(tmp_path / "v.pth", {"w": rebuilt(name, data, torch.float16)})
    assert refusal(path).startswith("w is a torch.Tensor of a device, converted to torch.float16")


def test_a_storage_that_is_shorter_than_it_says_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", {"w": torch.arange(6.0)[:2]})
    with zipfile.ZipFile(path) as archive:
        content = archive.read("w/data.pkl")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", content)
        archive.writestr("w/data/0", bytes(20))
    assert refusal(path) == "has fewer bytes in its storage 0 than it says; get it again"
