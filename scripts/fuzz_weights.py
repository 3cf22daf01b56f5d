"""Damage weight files of every kind at random, and read them: each must be read, or refused in one line.

    python scripts/fuzz_weights.py [--files 100000] [--seed 0] [--seconds 600] [--kinds torch,npz]

Anything but a CheckpointError of one line, more than a few seconds, or more than a few hundred MiB
is a failure; it is printed with its seed and number, and the exit status is 1. File n of a seed is
the same in every run: `--only N` reads that one alone and shows the traceback.
"""  # noqa: E501

from __future__ import annotations

import argparse
import collections
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from resnet_spec.errors import CheckpointError
from resnet_spec.weights import KINDS, read_weights, write_weights
from resnet_spec.weights.files import hdf5, hdf5_child
from resnet_spec.weights.files.torch_pickle import state_dict_pickle

MEMORY = 384 << 20
SECONDS = 5
Contents = dict[str, bytes]
"""Path inside the sample -> bytes; a sample that is one file has the path "" alone."""


class TooSlow(BaseException):
    """Raised by the alarm; no reader may catch it."""


def tensors() -> dict[str, Any]:
    kernel = np.arange(36, dtype=np.float32).reshape(3, 3, 2, 2)
    norm = {f"bn1.{name}": np.ones(2, np.float32) for name in ("gamma", "beta")}
    moving = {f"bn1.moving_{name}": np.ones(2, np.float32) for name in ("mean", "variance")}
    dense = {"fc.kernel": np.ones((2, 3), np.float32), "fc.bias": np.zeros(3, np.float32)}
    return {"conv1.kernel": kernel, **norm, **moving, **dense}


def samples() -> dict[str, list[Contents]]:
    """Make small sound files of every kind."""
    with tempfile.TemporaryDirectory() as folder:
        made: dict[str, list[Contents]] = {}
        for kind in KINDS:
            if kind == "keras":
                continue
            path = Path(folder) / kind
            write_weights(path, tensors(), kind)
            made[kind] = [contents(path)]
    made["torch"] += [{"": training_zip()}]
    made["msgpack"] += [{"": chunked()}]
    made["npz"] += [{"": deflated()}]
    made["keras-h5"] += [{"": packed_hdf5()}]
    made["keras"] = [{"": keras_zip(made["keras-weights"][0][""])}]
    made["pickles"] = [{"": bare} for bare in (b"PK\x03\x04", b"<html>", b"\x0a\x05", b"\x81")]
    return made


def contents(path: Path) -> Contents:
    if path.is_file():
        return {"": path.read_bytes()}
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def training_zip() -> bytes:
    """A checkpoint of a training run: arguments of a class, numbers, and NumPy values."""
    values = {"module.conv1.weight": np.zeros((2, 2), np.float16)}
    state = state_dict_pickle(values, {"module.conv1.weight": "float16"})[2:-1]
    args = argparse.Namespace(lr=0.1, names=["a", "b"], seen={1, 2})
    other = pickle.dumps((args, np.arange(3), np.float64(2), collections.Counter("aa")), 2)[2:-1]
    text = b"\x80\x02}(X\x05\x00\x00\x00epochK\x03X\x05\x00\x00\x00extra" + other
    text += b"X\x0a\x00\x00\x00state_dict" + state + b"u."
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", text)
        archive.writestr("archive/data/0", bytes(8))
    return out.getvalue()


def chunked() -> bytes:
    import msgpack

    part = msgpack.ExtType(1, msgpack.packb(((2,), "float32", bytes(8))))
    whole = {"__msgpack_chunked_array__": True, "shape": {"0": 4}, "chunks": {"0": part, "1": part}}
    half = msgpack.ExtType(1, msgpack.packb(((2,), "bfloat16", bytes(4))))
    tree = {"params": {"a": whole, "b": half}, "step": 3, "opt_state": {"0": part}}
    return msgpack.packb(tree) or b""


def deflated() -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, a=np.zeros((20, 20)), b=np.asfortranarray(np.ones((2, 3), np.int64)))
    return out.getvalue()


def packed_hdf5() -> bytes:
    import h5py

    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.attrs["layer_names"] = [b"fc"]
        group = file.create_group("fc")
        group.attrs["weight_names"] = [b"fc/kernel:0"]
        group.create_dataset("fc/kernel:0", data=np.ones((8, 8), np.float32), compression="gzip")
    return out.getvalue()


def keras_zip(weights: bytes) -> bytes:
    layer = {"class_name": "Conv2D", "config": {"name": "conv1", "use_bias": False}}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": [layer]}}))
        archive.writestr("model.weights.h5", weights)
    return out.getvalue()


LENGTHS = [0, 1, 0x7F, 0xFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]
OPCODES = b"().0125FIJKLMNPQRSTUVXabcdeghijlmnopqrstu\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95"  # noqa: E501


def flip(data: bytearray, draw: random.Random) -> None:
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def overwrite(data: bytearray, draw: random.Random) -> None:
    data[draw.randrange(len(data))] = draw.randrange(256)


def opcode(data: bytearray, draw: random.Random) -> None:
    data[draw.randrange(len(data))] = draw.choice(OPCODES)


def truncate(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def splice(data: bytearray, draw: random.Random) -> None:
    """Move or repeat a chunk."""
    start = draw.randrange(len(data))
    chunk = data[start : start + draw.randrange(1, 200)] * draw.choice([1, 1, 2, 50])
    if draw.random() < 0.5:
        del data[start : start + len(chunk)]
    at = draw.randrange(len(data) + 1)
    data[at:at] = chunk


def length(data: bytearray, draw: random.Random) -> None:
    """Write a telling number where a length may stand."""
    size = draw.choice([1, 2, 4, 8])
    at = draw.randrange(len(data))
    value = draw.choice(LENGTHS) % 2 ** (8 * size)
    data[at : at + size] = value.to_bytes(size, draw.choice(["little", "big"]))


def digits(data: bytearray, draw: random.Random) -> None:
    """Blow up a number that stands in text."""
    places = [at for at in range(min(len(data), 4000)) if 48 <= data[at] <= 57]
    if places:
        at = draw.choice(places)
        data[at : at + 1] = draw.choice([b"9" * 18, b"-1", b"0", b"1e9", b"null", b"[" * 2000])


def remove(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data))
    del data[start : start + draw.randrange(1, 20)]


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    *(flip, overwrite, opcode, opcode, truncate, splice, length, length, digits, remove)
]


def mutated(data: bytes, draw: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 3, 6])):
        if damaged:
            draw.choice(MUTATIONS)(damaged, draw)
    return bytes(damaged)


def mutated_inside(data: bytes, draw: random.Random) -> bytes:
    """Damage one member of a zip archive, so that the archive itself stays sound."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(out, "w") as archive:
        target = draw.choice(whole.namelist()[:2])
        for entry in whole.infolist():
            content = whole.read(entry)
            changed = mutated(content, draw) if entry.filename == target else content
            archive.writestr(entry.filename, changed, entry.compress_type)
    return out.getvalue()


def write_sample(path: Path, sample: Contents, draw: random.Random) -> None:
    target = draw.choice(sorted(sample))
    for name, data in sample.items():
        place = path / name if name else path
        place.parent.mkdir(parents=True, exist_ok=True)
        is_zip = len(data) > 100 and data.startswith(b"PK")
        damage = mutated_inside if is_zip and draw.random() < 0.6 else mutated
        place.write_bytes(damage(data, draw) if name == target else data)


def attempt(path: Path) -> str:
    """Read the file; return "read", "refused", or what went wrong."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        read_weights(path)
    except CheckpointError as error:
        one_line = len(error.problems) == 1 and str(error).isprintable() and len(str(error)) < 1000
        return "refused" if one_line else f"not one line: {str(error)!r}"
    except TooSlow:
        return f"slower than {SECONDS} s"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "read"


def on_alarm(number: int, frame: FrameType | None) -> None:
    raise TooSlow


def forked(path: Path, begin: int, size: int, most: int) -> tuple[int, bytes, str]:
    """Do what `hdf5.run_child` does in a fork, which starts a hundred times faster."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(3)
        try:
            status, output = 0, hdf5_child.listed(str(path), begin, size, most)
        except hdf5_child.Refused as error:
            status, output = 3, str(error).encode()
        except Exception:
            status, output = 1, b""
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(output)
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        output = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status < 0:
        stopped[signal.Signals(-status).name] += 1
    return status, output, output.decode(errors="replace") if status == 3 else ""


stopped = collections.Counter[str]()
"""How often the HDF5 library crashed, or hung and was stopped, outside of this process."""


def address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def remove_path(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--kinds", help="only these, separated by commas")
    parser.add_argument("--only", type=int, help="read file N alone")
    options = parser.parse_args()
    warnings.simplefilter("error")
    hdf5.run_child = forked
    signal.signal(signal.SIGALRM, on_alarm)
    made = samples()
    kinds = options.kinds.split(",") if options.kinds else list(made)
    counts = {kind: collections.Counter[str]() for kind in kinds}
    failures: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm"))
    began = time.monotonic()
    numbers = range(options.files) if options.only is None else [options.only]
    try:
        for kind in kinds:  # Libraries and their threads take address space on first use.
            write_sample(folder / kind, made[kind][0], random.Random(0))
            attempt(folder / kind)
        limit = address_space() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        for number in numbers:
            if time.monotonic() - began > options.seconds:
                break
            draw = random.Random(f"{options.seed}/{number}")
            # The kinds of HDF5 cost a process each; they come less often.
            usual = [kind for kind in kinds if "keras" not in kind]
            kind = draw.choice(usual if usual and draw.random() < 0.92 else kinds)
            path = folder / f"{number}"
            write_sample(path, draw.choice(made[kind]), draw)
            if options.only is not None:
                try:
                    print(read_weights(path))
                except Exception:
                    traceback.print_exc()
            outcome = attempt(path)
            counts[kind][outcome if outcome in ("read", "refused") else "failed"] += 1
            if outcome not in ("read", "refused"):
                failures.append(f"--seed {options.seed} --only {number}, {kind}: {outcome}")
                print(failures[-1], flush=True)
                if len(failures) >= 50:
                    break
            remove_path(path)
    finally:
        shutil.rmtree(folder)
    for kind, found in counts.items():
        print(
            f"{kind:14} "
            + "  ".join(f"{name} {found[name]}" for name in ("read", "refused", "failed"))
        )
    if stopped:
        print(f"the HDF5 library was stopped, apart from this process: {dict(stopped)}")
    total = sum(sum(found.values()) for found in counts.values())
    print(f"{total} files in {time.monotonic() - began:.0f} s, {len(failures)} failures")
    return 1 if failures or not total else 0


if __name__ == "__main__":
    sys.exit(main())
