"""Freed memory is kept by sessions on a CPU: who decides, what is told, what it does to a process.

That it is quicker is measured (docs/performance.md); that the system is not asked for memory again,
and that no bit of a run depends on it, is tested.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from resnet_spec import session
from resnet_spec.errors import BackendError
from resnet_spec.freed_memory import VARIABLE, is_glibc, keep_freed_memory, wish
from resnet_spec.loader import installed_backends

_ASKED = """
import json, resource
from resnet_spec.freed_memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

said, counted = keep_freed_memory(), []
for _ in range(4):
    before = faults()
    b"1" * 48_000_000  # More than glibc keeps by itself.
    counted.append(faults() - before)
print(json.dumps([said, counted[1:]]))
"""

_TRAINED = """
import json, sys
import numpy as np
from resnet_spec import session
from resnet_spec.contract import Batch
from resnet_spec.digests import digest

recipe = {"steps": 2, "batch": 4}
made = session("resnet20_cifar", sys.argv[1], recipe, classes=3, input_size=32, device="cpu")
images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
batch = Batch(images, np.arange(4) % 3, np.arange(4))
made.train([batch, batch], np.full(2, 0.01))
logits = list(made.predict([batch]))
print(json.dumps([made.info["freed_memory"], digest({**made.state(), "logits": logits[0]})]))
"""


def _answer(program: str, *given: str, **variables: str) -> Any:
    environment = {**os.environ, **variables}
    command = [sys.executable, "-c", program, *given]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, "kept"),
        ({VARIABLE: ""}, "kept"),
        ({VARIABLE: "kept"}, "kept"),
        ({VARIABLE: "returned"}, "returned"),
        ({"MALLOC_TRIM_THRESHOLD_": "131072"}, "returned"),
        ({"MALLOC_ARENA_MAX": "4"}, "returned"),
        ({"MALLOC_ARENA_MAX": "4", VARIABLE: "kept"}, "kept"),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, "returned"),
        ({"GLIBC_TUNABLES": "glibc.cpu.x86_ibt=on"}, "kept"),
        ({"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"}, "returned"),
        ({"LD_PRELOAD": "/usr/lib/libiomp5.so"}, "kept"),
    ],
)
def test_who_decides(environment: Mapping[str, str], found: str) -> None:
    assert wish(environment) == found


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("return", "must be kept or returned; did you mean 'returned'?"),
        ("1", "must be kept or returned; choose from kept, returned"),
    ],
)
def test_another_word_is_one_line(monkeypatch: pytest.MonkeyPatch, word: str, line: str) -> None:
    monkeypatch.setenv(VARIABLE, word)
    with pytest.raises(BackendError) as caught:
        session("resnet20_cifar", backend="numpy")
    assert str(caught.value) == f"{VARIABLE} = {word}: {line}"


@pytest.mark.skipif(not is_glibc(), reason="the C library is not glibc")
def test_what_is_freed_is_found_again() -> None:
    kept, returned = _answer(_ASKED), _answer(_ASKED, **{VARIABLE: "returned"})
    assert [kept[0], returned[0]] == ["kept", "returned"]
    assert max(kept[1]) * 2 < min(returned[1])  # 12,000 pages of 4 KiB, or 22 of 2 MiB.


@pytest.mark.parametrize("backend", [name for name in installed_backends() if name != "mindspore"])
def test_a_session_says_so(backend: str) -> None:
    info = session("resnet20_cifar", backend=backend, device="cpu").info
    assert info["freed_memory"] == keep_freed_memory()


@pytest.mark.parametrize("backend", ["torch", pytest.param("flax", marks=pytest.mark.thorough)])
def test_no_bit_depends_on_it(backend: str) -> None:
    pytest.importorskip(backend)
    kept = _answer(_TRAINED, backend)
    returned = _answer(_TRAINED, backend, **{VARIABLE: "returned"})
    assert [kept[0], returned[0]] == ["kept" if is_glibc() else "returned", "returned"]
    assert kept[1] == returned[1]
