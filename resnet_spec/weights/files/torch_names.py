"""What the names in a file of torch stand for: a closed list, and no code behind any of them.

A class that is not known makes an inert `Opaque`, so that the arguments of a training run may stand
beside its weights. A function that is not known is refused by name, and so is any mention of a
module whose functions run code or touch files, for an honest checkpoint mentions none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from resnet_spec.contract import Array
from resnet_spec.errors import CheckpointError
from resnet_spec.files.pickle_names import Global, PickleRefused
from resnet_spec.files.stand_ins import Built, Opaque
from resnet_spec.weights.files.arrays import STORED, array, settled
from resnet_spec.weights.files.source import Source, shown
from resnet_spec.weights.files.torch_tensors import Storage, View, strided
from resnet_spec.weights.files.torch_types import OTHER_STORAGES, STORAGES, element_of
from resnet_spec.weights.files.tree import Tensor, as_dict, as_integers, as_list, as_tuple

_DANGEROUS = """
    os posix nt subprocess sys shutil socket importlib runpy pty code codeop ctypes webbrowser
    pickle _pickle operator _operator commands popen2 multiprocessing io _io tempfile marshal
    builtins __builtin__ timeit pdb bdb cProfile profile pydoc pip setuptools urllib requests
    zipimport imp
"""
_HARMLESS_BUILTINS = """
    set frozenset list dict tuple int float complex bool str bytes bytearray slice range object
    long unicode
"""
_HARMLESS_CALLS = """
    datetime.datetime datetime.date datetime.time datetime.timedelta datetime.timezone
    decimal.Decimal fractions.Fraction uuid.UUID collections.Counter collections.deque
    pathlib.Path pathlib.PosixPath pathlib.WindowsPath pathlib.PurePosixPath pathlib.PurePath
    pathlib.PureWindowsPath copyreg._reconstructor copy_reg._reconstructor copyreg.__newobj__
    types.SimpleNamespace torch.device functools.partial torch.serialization._get_layout
    torch._utils._rebuild_qtensor torch._utils._rebuild_sparse_tensor
    torch._utils._rebuild_nested_tensor torch._utils._rebuild_meta_tensor_no_storage
    torch._utils._rebuild_sparse_csr_tensor torch._utils._rebuild_wrapper_subclass
"""
_SAFE = frozenset(_HARMLESS_BUILTINS.split())
# Python 3.13 calls the module of its paths `pathlib._local`.
_PATHS = (name for name in _HARMLESS_CALLS.split() if name.startswith("pathlib."))
_INERT = frozenset(_HARMLESS_CALLS.split()) | {
    name.replace("pathlib.", "pathlib._local.") for name in _PATHS
}
_DANGERS = frozenset(_DANGEROUS.split())
_NUMPY_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")


class TorchNames:
    """The names of torch and NumPy, with the storages that a file holds (filled in by its reader).

    storages: key -> bytes. used: every storage that the pickle named.
    """

    def __init__(self, source: Source, storages: Mapping[str, memoryview]) -> None:
        self._source = source
        self._storages = storages
        self.used: dict[str, Storage] = {}

    def find(self, name: Global) -> object:
        """Return the name itself, unless its module is one that no checkpoint mentions."""
        top = name.module.partition(".")[0]
        if top in _DANGERS and not (
            name.module in ("builtins", "__builtin__") and name.name in _SAFE
        ):
            raise _asks(name)
        return name

    def call(self, function: object, arguments: object) -> object:
        """Return what `function(*arguments)` means, or raise PickleRefused."""
        given = as_tuple(arguments)
        if given is None:
            raise PickleRefused("its pickle is damaged")
        if not isinstance(function, Global):
            raise PickleRefused(f"asks to call a {_kind(function)}; refused")
        known = _CALLS.get(str(function))
        if known is not None:
            return known(self, given)
        if function.module in ("builtins", "__builtin__") or str(function) in _INERT:
            reconstructs = function.name in ("_reconstructor", "__newobj__")
            return self.make(given[0]) if reconstructs and given else Opaque(str(function))
        raise _asks(function)

    def make(self, kind: object) -> object:
        """Return a stand-in for a new object of the class `kind`."""
        if not isinstance(kind, Global):
            raise PickleRefused(f"asks for an object of a {_kind(kind)}; refused")
        return {} if str(kind) == "collections.OrderedDict" else Opaque(str(kind))

    def build(self, target: object, state: object) -> None:
        """Complete an array or a data type of NumPy; every other state is ignored."""
        if not isinstance(target, Built):
            return
        given = as_tuple(state) or ()
        if target.name == "numpy.dtype" and len(given) > 1 and isinstance(given[1], str | bytes):
            _, code = cast("tuple[str, str]", target.value)
            target.value = (_text(given[1]), code)
        elif target.name == "numpy.ndarray" and len(given) == 5:
            _, shape, dtype, by_column, raw = given
            sizes = as_integers(shape)
            data = raw.encode("latin1", "replace") if isinstance(raw, str) else raw
            if sizes is not None and isinstance(dtype, Built) and isinstance(data, bytes):
                target.value = self._numpy(data, dtype, sizes, bool(by_column))

    def persistent(self, key: object) -> object:
        """Return the storage that the tuple `key` describes."""
        given = as_tuple(key) or ()
        if len(given) >= 2 and given[0] == "module" and isinstance(given[1], Global):
            return given[1]
        if len(given) < 5 or given[0] != "storage":
            raise PickleRefused("has a storage that is not described as torch does it")
        kind, name, size = given[1], given[2], given[4]
        view = as_tuple(given[5]) if len(given) > 5 else None
        base = 0 if view is None else (as_integers(view[1:2]) or (-1,))[0]
        if not isinstance(kind, Global) or kind.name not in STORAGES.keys() | OTHER_STORAGES.keys():
            raise PickleRefused(f"has a storage of the kind {shown(_kind(kind))}")
        if not isinstance(name, str | int) or type(size) is not int or min(base, size) < 0:
            raise PickleRefused("has a storage that is not described as torch does it")
        element = STORAGES.get(kind.name, str(kind))
        storage = Storage(str(name), element, size, base)
        if self.used.setdefault(storage.key, storage).element != element:
            raise PickleRefused(f"has the storage {shown(storage.key)} as two types")
        return storage if kind.name in STORAGES else Opaque(str(kind))

    def rebuilt(
        self, given: tuple[Any, ...], element: str | None = None, metadata: object = None
    ) -> object:
        """Return the tensor of `_rebuild_tensor(storage, offset, shape, stride, ...)`.

        metadata: the last argument of newer versions, which has the bits of a lazy operation.
        """
        storage, offset, shape, stride = _exactly(given, 4)
        if isinstance(storage, Opaque):
            return storage
        sizes, steps = as_integers(shape), as_integers(stride)
        if (
            not isinstance(storage, Storage)
            or type(offset) is not int
            or sizes is None
            or steps is None
            or len(sizes) != len(steps)
        ):
            raise PickleRefused("has a tensor that is not described as torch does it")
        kind = storage.element if element is None else element
        view = View(storage, kind, offset, sizes, steps, _is_negative(metadata, kind))
        return Tensor(kind, partial(strided, view, self._storages, self._source))

    def _numpy(self, raw: bytes, dtype: Built, shape: tuple[int, ...], by_column: bool) -> object:
        order, code = cast("tuple[str, str]", dtype.value)
        element = _NUMPY_CODES.get(code)
        if element is None or order == ">":
            return Opaque(f"numpy.ndarray of {shown(order + code)}")
        data = memoryview(raw)

        def load() -> Array:
            axes = shape[::-1] if by_column else shape
            found = array(data, element, axes, self._source, "an array of NumPy")
            return settled(found.T if by_column else found, "float32", self._source)

        return Tensor(element, load)


_NUMPY_CODES = {dtype.str.lstrip("<|="): name for name, dtype in STORED.items()} | {
    "u2": "uint16",
    "b1": "bool",
}


def _asks(name: Global) -> PickleRefused:
    return PickleRefused(f"asks to run {shown(str(name))}; refused, do not use this file")


def _kind(value: object) -> str:
    if isinstance(value, Opaque | Built):
        return value.name
    return str(value) if isinstance(value, Global) else type(value).__name__


def _text(value: str | bytes) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _exactly(given: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    if len(given) < number:
        raise PickleRefused("has an object that is not described as torch does it")
    return given[:number]


def _mapping(_: TorchNames, given: tuple[Any, ...]) -> object:
    """Return the dict of `OrderedDict()` or `OrderedDict(pairs)`."""
    result: dict[object, object] = {}
    for pair in (as_list(given[0]) if given else None) or ():
        items = as_list(pair) or list(as_tuple(pair) or ())
        if len(items) != 2 or not isinstance(items[0], str):
            raise PickleRefused("has a dict that is not described as Python does it")
        result[items[0]] = items[1]
    return result


def _first(_: TorchNames, given: tuple[Any, ...]) -> object:
    return _exactly(given, 1)[0]


def _is_negative(metadata: object, element: str) -> bool:
    """Whether a tensor's values are those of its storage times -1, as after `x.conj().imag`."""
    if metadata is None:
        return False
    bits = as_dict(metadata)
    if bits is None or bits.keys() - {"neg", "conj"} or not all(_is_bool(b) for b in bits.values()):
        raise PickleRefused("has a tensor with metadata that are not known; save it as a clone")
    if bits.get("conj") or (bits.get("neg") and not element.startswith(("float", "bfloat"))):
        raise PickleRefused(f"has a tensor of {element} that is conjugate or negative by a bit")
    return bool(bits.get("neg"))


def _is_bool(value: object) -> bool:
    return value is True or value is False


def _second_version(names: TorchNames, given: tuple[Any, ...]) -> object:
    return names.rebuilt(given, metadata=given[6] if len(given) > 6 else None)


def _third_version(names: TorchNames, given: tuple[Any, ...]) -> object:
    dtype = _exactly(given, 7)[6]
    element = element_of(dtype)
    if element is None:
        return Opaque(str(dtype))
    return names.rebuilt(given, element, given[7] if len(given) > 7 else None)


def _of_device(_: TorchNames, given: tuple[Any, ...]) -> object:
    """`_rebuild_device_tensor_from_...(data, dtype, device, ...)`, which converts the data."""
    data, dtype = _exactly(given, 2)
    inner = data.value if isinstance(data, Built) else data
    if isinstance(inner, Tensor) and inner.element == element_of(dtype):
        return inner
    return Opaque(f"torch.Tensor of a device, converted to {dtype}")


def _of_type(names: TorchNames, given: tuple[Any, ...]) -> object:
    """`_rebuild_from_type_v2(function, class, arguments, state)`: a tensor of a subclass."""
    function, _, arguments = _exactly(given, 3)
    return names.call(function, arguments)


def _encoded(_: TorchNames, given: tuple[Any, ...]) -> object:
    text, encoding = _exactly(given, 2)
    if isinstance(text, str) and encoding in ("latin1", "latin-1"):
        try:
            return text.encode("latin1")
        except UnicodeEncodeError:
            pass
    raise PickleRefused("its pickle is damaged")


def _numpy_array(_: TorchNames, given: tuple[Any, ...]) -> object:
    return Built("numpy.ndarray")


def _numpy_dtype(_: TorchNames, given: tuple[Any, ...]) -> object:
    code = _exactly(given, 1)[0]
    if not isinstance(code, str | bytes):
        raise PickleRefused("its pickle is damaged")
    return Built("numpy.dtype", ("<", _text(code)))


def _numpy_scalar(_: TorchNames, given: tuple[Any, ...]) -> object:
    return Opaque("scalar")


_CALLS: dict[str, Callable[[TorchNames, tuple[Any, ...]], object]] = {
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": lambda names, given: {},
    "torch._utils._rebuild_tensor": lambda names, given: names.rebuilt(given),
    "torch._utils._rebuild_tensor_v2": _second_version,
    "torch._utils._rebuild_tensor_v3": _third_version,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _of_device,
    "torch._utils._rebuild_device_tensor_from_numpy": _of_device,
    "torch._utils._rebuild_xla_tensor": _of_device,
    "torch.nn.parameter.Parameter": _first,
    "torch._tensor._rebuild_from_type": _of_type,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.Size": _first,
    "_codecs.encode": _encoded,
    **{f"{module}._reconstruct": _numpy_array for module in _NUMPY_MODULES},
    **{f"{module}.dtype": _numpy_dtype for module in _NUMPY_MODULES},
    **{f"{module}.scalar": _numpy_scalar for module in _NUMPY_MODULES},
}


def refusal(error: PickleRefused, source: Source) -> CheckpointError:
    """Return the one line that refuses the file for what its pickle holds."""
    text = str(error)
    return source.refused(text, "" if "refused" in text else "get it again")
