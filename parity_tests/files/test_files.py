"""Files are written whole or not at all, by one error where there is no room; JSON has no NaN."""

from __future__ import annotations

import json
import math
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from full_disk import limited

from resnet_spec.errors import OutputError, ResnetSpecError
from resnet_spec.files.json_text import json_text
from resnet_spec.files.locking import locked
from resnet_spec.files.writing import beside, replacing, write_json, write_text, writing

WRITERS = {
    "text": "write_text(Path('f'), 'x' * 30_000)",
    "json": "write_json(Path('f'), ['x' * 30_000])",
    "safetensors": "save_file({'a': np.zeros(9_000)}, at)",
    "npz": "np.savez(at.open('wb'), np.zeros(9_000))",
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_one_error_that_leaves_the_old_file(what: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    lines = f"""
import numpy as np
from safetensors.numpy import save_file
from resnet_spec.errors import OutputError
from resnet_spec.files.writing import replacing, write_json, write_text
try:
    with replacing(Path("f")) as at:
        {WRITERS[what]}
except OutputError as error:
    print(error)
"""
    ran = limited(lines, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "f: cannot be written: File too large\n"
    assert (tmp_path / "f").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_what_the_system_refuses_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "below"
    with pytest.raises(OutputError) as caught:
        write_text(path, "x")
    assert str(caught.value) == f"{path}: cannot be written: Not a directory"
    assert isinstance(caught.value, ResnetSpecError) and isinstance(caught.value, OSError)
    assert caught.value.filename == str(path) and caught.value.errno
    with pytest.raises(OutputError, match="Is a directory"):
        write_text(tmp_path, "x")
    with pytest.raises(OutputError, match="Not a directory"), beside(path):
        pass


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (ValueError("wrong"), KeyboardInterrupt()):
        with pytest.raises(type(error)), replacing(tmp_path / "deep" / "f"):
            raise error
    with pytest.raises(RuntimeError, match="elsewhere"), writing(tmp_path / "f"):
        raise RuntimeError("elsewhere")
    assert list(tmp_path.iterdir()) == []


def test_a_library_in_rust_gives_the_number_of_the_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught, writing(tmp_path / "f"):
        raise RuntimeError("Error while serializing: I/O error: No space left (os error 28)")
    assert caught.value.problems == (f"{tmp_path / 'f'}: cannot be written: {os.strerror(28)}",)


def test_json_has_null_for_what_is_no_number(tmp_path: Path) -> None:
    value = {"a": math.nan, "b": [1.5, -math.inf, {"c": (math.inf, 2)}], "d": np.float64("nan")}
    wanted = {"a": None, "b": [1.5, None, {"c": [None, 2]}], "d": None}
    write_json(tmp_path / "f", value)
    assert json.loads((tmp_path / "f").read_text()) == wanted
    assert (
        json_text({"b": 1.0, "a": math.nan}, sort_keys=True, compact=True) == '{"a":null,"b":1.0}'
    )


def test_json_is_ascii_unless_told(tmp_path: Path) -> None:
    assert json_text({"größe": 1}) == '{"gr\\u00f6\\u00dfe": 1}'
    assert json_text({"größe": 1}, ensure_ascii=False, compact=True) == '{"größe":1}'


def test_who_is_about_to_leave_a_folder_is_waited_for(tmp_path: Path) -> None:
    def refuse(holder: str) -> ResnetSpecError:
        return ResnetSpecError(holder)

    def hold() -> None:
        with locked(tmp_path, refuse, print):
            is_held.set()
            lets_go.wait(10)

    is_held, lets_go = threading.Event(), threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    assert is_held.wait(10)
    with pytest.raises(ResnetSpecError, match="process"), locked(tmp_path, refuse, print):
        pass
    threading.Timer(0.1, lets_go.set).start()
    with locked(tmp_path, refuse, print):
        holder.join(10)
