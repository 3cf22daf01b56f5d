"""A run keeps its last checkpoint and the one before it, and goes on from whichever is sound."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from tiny_run import TINY

from resnet_spec.cli.main import main
from resnet_spec.errors import CheckpointError, DataError, OutputError
from resnet_spec.files.writing import replacing
from resnet_spec.running.metrics import Epoch, read_metrics
from resnet_spec.running.run_folder import Begins, RunFolder
from resnet_spec.weights.checkpoint import load_checkpoint, save_checkpoint
from resnet_spec.weights.last_two import LAST, PREVIOUS

TRAIN = ("train", "tiny.toml", "--backend", "numpy", "--input-size", "8", "--set", "batch=700")
"""Of 1,437 images: two steps an epoch."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of three epochs: its checkpoints are of the steps 6 and 4."""
    made = tmp_path_factory.mktemp("whole")
    (made / "tiny.toml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        assert main([*TRAIN, "--set", "epochs=3", "--out", "run"]) == 0
    return made


@pytest.fixture
def run(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of that run; the test stands beside it."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("run")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def epochs(folder: Path) -> list[Epoch]:
    return [replace(epoch, images_per_second=0, wall_s=0) for epoch in read_metrics(folder)]


def states(folder: Path, name: str = LAST) -> dict[str, bytes]:
    return {key: a.tobytes() for key, a in load_checkpoint(folder / name).state.items()}


def step(path: Path) -> int:
    return int(load_checkpoint(path).progress["step"])


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("resnet-spec: error: ") and error.count("\n") == 1, error
    return error.removeprefix("resnet-spec: error: ").rstrip()


# --- Damage ---------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_weight(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 16
    path.write_bytes(data)


def change_the_step(path: Path) -> None:
    """One byte of the header, which the digest of the tensors says nothing of."""
    data = path.read_bytes()
    found = b'\\"step\\":6'
    assert data.count(found) == 1
    path.write_bytes(data.replace(found, b'\\"step\\":4'))


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGE: dict[Callable[[Path], None], str] = {
    cut: "does; it is cut short",
    flip_a_weight: "its tensors do not match their digest; the file is damaged",
    change_the_step: "its header does not match its digest; the file is damaged",
    empty: "is empty",
    Path.unlink: "there is no such file",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda it: it.__name__)
def test_a_run_goes_on_from_the_one_before_to_the_same_bits(
    damage: Callable[[Path], None], whole: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (step(run / LAST), step(run / PREVIOUS)) == (6, 4)
    damage(run / LAST)
    assert main(["train", "--resume", "run"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    (note,) = notes
    assert note.startswith("note: run/last.safetensors: ")
    goes_on = "the run goes on from run/previous.safetensors, the checkpoint before it, at step 4"
    assert note.endswith(f"{DAMAGE[damage]}; {goes_on}")
    assert states(run) == states(whole / "run") and epochs(run) == epochs(whole / "run")
    assert states(run, "best.safetensors") == states(whole / "run", "best.safetensors")
    assert files(run).keys() == files(whole / "run").keys()
    assert states(run, PREVIOUS) == states(whole / "run", PREVIOUS)


def test_no_flipped_bit_is_believed(run: Path) -> None:
    """It is found, or the file means the same: 1e-4 and 1E-4, or the digest's own name."""
    whole, path = (run / LAST).read_bytes(), Path("c.safetensors")
    expected = load_checkpoint(run / LAST)
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [*range(0, header, 5), *range(header, len(whole), 499)]
    assert len(places) > 500
    taken = 0
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        try:
            found = load_checkpoint(path)
        except CheckpointError:
            continue
        taken += 1
        assert replace(found, state={}) == replace(expected, state={}), place
    assert taken < 5


def test_a_damaged_one_that_is_named_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_a_weight(run / LAST)
    before = files(run)
    assert main(["train", "--resume", "run/last.safetensors"]) == 2
    error = error_of(capsys)
    assert error.startswith("--resume = run/last.safetensors: its tensors do not match")
    assert error.endswith("; --resume run goes on from run/previous.safetensors, at step 4")
    assert files(run) == before
    (run / LAST).unlink()
    assert main(["train", "--resume", "run/last.safetensors"]) == 2
    assert error_of(capsys).endswith(
        "no such run; --resume run goes on from run/previous.safetensors"
    )


def test_where_both_are_damaged_one_line_says_so(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_a_weight(run / LAST)
    cut(run / PREVIOUS)
    before = files(run)
    assert main(["train", "--resume", "run"]) == 2
    error = error_of(capsys)
    assert error.startswith("--resume = run: neither of its checkpoints can be gone on from: ")
    assert "run/last.safetensors: its tensors" in error and "run/previous.safetensors: " in error
    assert error.endswith("; begin it anew")
    assert files(run) == before


@pytest.mark.parametrize("change", [{"format": 9}, {"recipe": None}])
def test_what_is_whole_and_strange_is_not_taken_for_damaged(
    change: dict[str, object], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a newer version's: going on from the one before would cost it."""
    import safetensors

    with safetensors.safe_open(run / LAST, "np") as file:
        header = json.loads(file.metadata()["resnet_spec"])
    del header["header_digest"]
    tensors = load_file(run / LAST)
    save_file(tensors, run / LAST, {"resnet_spec": json.dumps({**header, **change})})
    before = files(run)
    assert main(["train", "--resume", "run"]) == 2
    assert "previous" not in error_of(capsys)
    assert files(run) == before


def test_a_checkpoint_from_before_there_was_a_digest_of_its_header(run: Path) -> None:
    import safetensors

    expected = load_checkpoint(run / LAST)
    with safetensors.safe_open(run / LAST, "np") as file:
        header = json.loads(file.metadata()["resnet_spec"])
    del header["header_digest"]
    save_file(load_file(run / LAST), run / LAST, {"resnet_spec": json.dumps(header)})
    assert replace(load_checkpoint(run / LAST), state={}) == replace(expected, state={})


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "run", "--backend", "numpy"],
        ["predict", "run/last.safetensors", "x.png", "--backend", "numpy"],
        ["convert", "run/last.safetensors", "new.safetensors"],
        ["inspect", "run"],
    ],
    ids=" ".join,
)
def test_nobody_looks_at_other_weights_than_are_named(
    command: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (8, 8)).save("x.png")
    flip_a_weight(run / LAST)
    (run / "best.safetensors").unlink()
    assert main(command) == 2
    error = error_of(capsys)
    assert "run/last.safetensors: its tensors do not match their digest" in error
    remedy = "name run/previous.safetensors, the checkpoint before it; train --resume run goes on"
    assert error.endswith(f"; {remedy} from it")
    assert main(["inspect", "run/previous.safetensors"]) == 0


# --- Folders --------------------------------------------------------------------------------------


def test_elsewhere_a_run_goes_on_from_the_one_before_as_well(
    whole: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_a_weight(run / LAST)
    before = files(run)
    assert main(["train", "--resume", "run", "--out", "far"]) == 0
    assert "goes on from run/previous.safetensors" in capsys.readouterr().out
    assert files(run) == before
    assert states(Path("far")) == states(whole / "run")
    assert states(Path("far"), PREVIOUS) == states(whole / "run", PREVIOUS)


def test_a_run_that_is_copied_whole_has_both(run: Path) -> None:
    assert main(["train", "--resume", "run", "--out", "far"]) == 0
    assert files(Path("far")) == files(run)


def test_one_that_is_replaced_comes_back_with_both(run: Path) -> None:
    before = files(run)
    fails = ("--set", "schedule.rate=1e30", "--set", "steps=9")
    assert main([*TRAIN, *fails, "--out", "run", "--overwrite"]) == 2
    assert files(run) == before
    assert main([*TRAIN, "--set", "steps=1", "--out", "run", "--overwrite"]) == 0
    assert not (run / PREVIOUS).exists(), "the new run has come to one checkpoint"


def test_the_sound_one_is_not_lost_to_the_next(run: Path) -> None:
    """A damaged last one never becomes the one before: whoever is killed then has none."""
    sound = (run / PREVIOUS).read_bytes()
    flip_a_weight(run / LAST)
    progress = load_checkpoint(run / PREVIOUS).progress
    begins = Begins(run, progress, checkpoint=PREVIOUS)
    with RunFolder(run).held(begins, None, print):
        assert (run / LAST).read_bytes() == sound
    with (
        pytest.raises(DataError, match="another process has trained this run meanwhile"),
        RunFolder(run).held(begins, None, print),
    ):
        pass


def test_two_that_go_back_at_once_do_not_meet(run: Path) -> None:
    """The first one has gone on by then: what it came to stays."""
    progress = load_checkpoint(run / PREVIOUS).progress
    before = files(run)
    begins = Begins(run, progress, checkpoint=PREVIOUS)
    with (
        pytest.raises(DataError, match="another process has trained this run meanwhile"),
        RunFolder(run).held(begins, None, print),
    ):
        pass
    assert files(run) == before


# --- Killed in the middle -------------------------------------------------------------------------

_KILLED = """
import json, os, shutil, sys
from pathlib import Path
from resnet_spec.files.writing import replacing

def refused(*_): raise OSError(1, "Operation not permitted")
if sys.argv[1] == "one name": os.link = refused

def dying(real, after):
    def call(*args, **more):
        after[0] -= 1
        if after[0] < 0: os._exit(9)
        return real(*args, **more)
    return call

found = []
for calls in range(99):
    folder = Path(str(calls)); folder.mkdir()
    (folder / "last").write_text("two" * 999)
    (folder / "previous").write_text("one" * 999)
    child = os.fork()
    if not child:
        left = [calls]
        for name in ("link", "replace", "unlink", "fsync", "open", "close", "chmod"):
            setattr(os, name, dying(getattr(os, name), left))
        with replacing(folder / "last", folder / "previous") as new:
            new.write_text("three" * 999)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    paths = folder / "last", folder / "previous"
    found.append([status, *(path.read_text() if path.exists() else None for path in paths)])
    if not status: break
print(json.dumps(found))
"""
_ONE, _TWO, _THREE = "one" * 999, "two" * 999, "three" * 999


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("names", ["two names", "one name"])
def test_whenever_a_process_is_killed_one_is_whole(names: str, tmp_path: Path) -> None:
    """It is killed before each call of the system that writes a checkpoint makes."""
    command = [sys.executable, "-c", _KILLED, names]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found[-1] == [0, _THREE, _TWO] and len(found) > 8
    pairs = {(last, before) for status, last, before in found if status == 9}
    if names == "two names":
        assert pairs == {(_TWO, _ONE), (_THREE, _ONE), (_THREE, _TWO)}
    else:
        assert pairs == {(_TWO, _ONE), (None, _TWO), (_THREE, _TWO)}


@pytest.mark.parametrize("has_links", [True, False])
def test_a_rename_that_is_refused_costs_nothing(
    has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, before = tmp_path / LAST, tmp_path / PREVIOUS
    last.write_text("two")
    before.write_text("one")
    real = Path.replace

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def replace_path(self: Path, target: Path) -> Path:
        return full() or real(self, target) if self.name.endswith(".tmp") else real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace_path)
        if not has_links:
            patch.setattr("os.link", full)
        with pytest.raises(OutputError, match="No space left"), replacing(last, before) as new:
            new.write_text("three")
    assert last.read_text() == "two"
    assert not has_links or before.read_text() == "one"
    assert {path.name for path in tmp_path.iterdir()} <= {LAST, PREVIOUS}


def test_a_new_run_keeps_one_until_it_has_two(whole: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(whole / "run" / LAST)
    folder = RunFolder(tmp_path)
    folder.save_last(checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == [LAST]
    first = folder.last.read_bytes()
    folder.save_last(replace(checkpoint, data="elsewhere"))
    assert folder.previous.read_bytes() == first != folder.last.read_bytes()
    save_checkpoint(tmp_path / "third", replace(checkpoint, data="third"))
    folder.save_last(replace(checkpoint, data="third"))
    assert load_checkpoint(folder.previous).data == "elsewhere"
    assert folder.last.read_bytes() == (tmp_path / "third").read_bytes()
