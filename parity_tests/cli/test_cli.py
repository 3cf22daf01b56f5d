"""The command line: what it prints, how it ends, and what it leaves unimported."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_spec import loader
from resnet_spec.cli import list as list_command
from resnet_spec.cli.main import COMMANDS, main
from resnet_spec.describing.spec_files import load_spec

Captured = pytest.CaptureFixture[str]


def output(capsys: Captured, *argv: str) -> str:
    assert main(argv) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def error(capsys: Captured, *argv: str) -> str:
    """Return the one line that a wrong command line prints."""
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    prefix, _, line = captured.err.partition("resnet-spec: error: ")
    assert prefix == ""
    assert line.count("\n") == 1
    return line.strip()


def python(code: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False
    )


RUN = "import sys; from resnet_spec.cli.main import main; sys.exit(main())"


@pytest.mark.parametrize("argv", [(), ("--help",), ("-h",)])
def test_help_names_every_command(argv: tuple[str, ...], capsys: Captured) -> None:
    text = output(capsys, *argv)
    for name, command in COMMANDS.items():
        assert f"  {name}" in text
        assert command.help in text


def test_version(capsys: Captured) -> None:
    assert output(capsys, "--version").startswith("resnet-spec 0.")


@pytest.mark.parametrize("name", ["list", "describe", "schema", "backends"])
def test_each_command_has_its_help(name: str, capsys: Captured) -> None:
    assert output(capsys, name, "--help").startswith(f"usage: resnet-spec {name} ")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("descirbe",), "descirbe: unknown command; did you mean 'describe'?"),
        (("--verson",), "--verson: unknown option; did you mean '--version'?"),
        (
            ("describe", "resnet18", "--fromat", "json"),
            "--fromat: unknown option; did you mean '--format'?; see: resnet-spec describe --help",
        ),
        (
            ("describe", "resnet18", "--form", "json"),
            "--form: unknown option; did you mean '--format'?; see: resnet-spec describe --help",
        ),
        (
            ("describe", "resnet18", "resnet34"),
            "resnet34: one argument too many; see: resnet-spec describe --help",
        ),
        (
            ("describe",),
            "the following arguments are required: SPEC; see: resnet-spec describe --help",
        ),
        (
            ("describe", "resnet18", "--classes", "ten"),
            "argument --classes: invalid int value: 'ten'; see: resnet-spec describe --help",
        ),
        (("describe", "resnet18", "--input-size", "0"), "input.size = 0: must be >= 1"),
        (("describe", "no.toml"), "no.toml: cannot be read: No such file or directory"),
        (
            ("list", "resnet1O1"),
            "pattern = resnet1O1: matches no preset; did you mean 'resnet101'?",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    argv: tuple[str, ...], line: str, capsys: Captured
) -> None:
    assert error(capsys, *argv) == line


def test_every_problem_has_its_own_line(capsys: Captured) -> None:
    assert main(["describe", "resnet18", "--classes", "0", "--set", "stages[0].width=0"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "resnet-spec: error: classes = 0: must be >= 1",
        "resnet-spec: error: stages[0].width = 0: must be >= 1",
    ]


def test_list_takes_a_part_of_a_name_or_a_pattern(capsys: Captured) -> None:
    def names(*argv: str) -> list[str]:
        return [row["name"] for row in json.loads(output(capsys, "list", "--format=json", *argv))]

    assert names("wide") == ["wide_resnet50_2", "wide_resnet101_2"]
    assert names("resnet?8") == ["resnet18"]
    assert len(names()) > 70


def test_list_shows_counts(capsys: Captured) -> None:
    head, row = output(capsys, "list", "resnet50_v1").splitlines()
    assert head.split() == ["name", "params", "MACs", "input", "about"]
    assert row.split()[:4] == ["resnet50_v1", "25,557,032", "3,857,974,248", "224"]


def test_describe_changes_size_classes_and_fields(capsys: Captured) -> None:
    argv = ["describe", "resnet50", "--format", "json", "--set", "stages[2].blocks=4"]
    data = json.loads(output(capsys, *argv, "--input-size", "64", "--classes", "7"))
    assert (data["input_size"], data["classes"]) == (64, 7)
    assert data["stages"][3]["output_shape"] == [1024, 4, 4]
    assert data["spec"]["stages"][2]["blocks"] == 4
    assert set(data) >= {"name", "params", "macs", "input_size", "classes", "stages", "tensors"}
    assert set(data["tensors"][0]) == {"name", "shape", "role"}


def test_describe_as_toml_is_a_spec_file(capsys: Captured, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(output(capsys, "describe", "seresnet50", "--format", "toml"))
    assert load_spec(path) == load_spec("seresnet50")


def test_describe_as_a_table(capsys: Captured) -> None:
    text = output(capsys, "describe", "resnet152")
    assert "60,192,808" in text
    assert "11,513,627,624" in text


def test_schema_is_json(capsys: Captured) -> None:
    assert json.loads(output(capsys, "schema"))["$schema"].startswith("https://json-schema.org")


def test_backends_shows_all_four_with_versions(capsys: Captured) -> None:
    rows = {row["name"]: row for row in json.loads(output(capsys, "backends", "--format=json"))}
    assert {"numpy", "torch", "flax", "mindspore"} <= set(rows)
    assert rows["numpy"]["installed"]
    assert set(rows["flax"]["versions"]) == {"jax", "flax", "optax"}
    assert set(rows["torch"]["versions"]) == {"torch"}
    for row in rows.values():
        assert row["installed"] == all(row["versions"].values())


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupted(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(list_command, "run", interrupted)
    assert main(["list"]) == 130
    assert capsys.readouterr().err == "resnet-spec: error: interrupted\n"


def test_a_reader_that_stops_early_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "describe", "resnet1202_cifar", "--format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "{\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-c", RUN, "schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 2
    assert result.stderr == "resnet-spec: error: output: No space left on device\n"


_IMPORTED = """
import sys
from resnet_spec.cli.main import main
status = main()
heavy = ("numpy", "pydantic", "rich", "torch", "jax", "mindspore", "matplotlib", "PIL")
print(*(name for name in heavy if name in sys.modules), file=sys.stderr)
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("argv", "imported"),
    [
        (("--help",), ""),
        (("--version",), ""),
        (("describe", "--help"), ""),
        (("describe", "resnet152"), "pydantic"),
        (("list",), "pydantic"),
    ],
)
def test_commands_import_no_more_than_they_need(argv: tuple[str, ...], imported: str) -> None:
    result = python(_IMPORTED, *argv)
    assert result.returncode == 0
    assert result.stderr.strip() == imported


@pytest.mark.parametrize(
    ("argv", "limit"),
    [
        (("--help",), 0.5),
        (("describe", "resnet152"), 2.5),
        (("describe", "resnet1202_cifar"), 4.0),
    ],
)
def test_commands_answer_quickly(argv: tuple[str, ...], limit: float) -> None:
    """Counts processor time, the best of three, in multiples of what pydantic takes to make a
    model, for machines are of all speeds. Measured: 0.16, 1.4 and 1.7."""
    pydantic = "import pydantic\nclass Model(pydantic.BaseModel): field: int"
    assert seconds_of(RUN, *argv) < limit * seconds_of(pydantic)


def seconds_of(*arguments: str) -> float:
    """Return the processor seconds of a whole process, the least of three."""
    times: list[float] = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert python(*arguments).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def test_a_backend_that_is_broken_is_left_out_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(loader, "installed_backends", lambda: ["numpy", "broken"])
    assert main(["parity", "resnet20_cifar", "--level", "names", "--input-size", "8"]) == 0
    assert "warning: backend = broken: does not exist" in capsys.readouterr().err
    asked = ["--backends", "numpy,broken"]
    assert main(["parity", "resnet20_cifar", "--level", "names", *asked]) == 2
    assert "error: backend = broken: does not exist" in capsys.readouterr().err
