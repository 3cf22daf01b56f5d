"""What follows from given turns: medians, quartiles, ratios, shares; as a table, JSON and bars."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from bench_cases import LINEN, OTHER, OURS, OWN, PEER, asked, measured, result

from resnet_spec.benchmarking import machine
from resnet_spec.benchmarking.files import check_files, write_files
from resnet_spec.benchmarking.machine import Machine
from resnet_spec.benchmarking.results import Spread
from resnet_spec.benchmarking.tables import lines, markdown, notes
from resnet_spec.errors import DataError, OutputError
from resnet_spec.planning.costs import count_macs

NUMBER, TEXT = {"type": "number"}, {"type": "string"}
MAYBE = {"type": ["number", "null"]}
SPREAD = {
    "type": ["object", "null"],
    "required": ["median", "low", "high"],
    "additionalProperties": NUMBER,
}
START = {
    "images_per_second": {**SPREAD, "type": "object"},
    "product_gflops": {"type": "array", "items": NUMBER},
    "start_s": NUMBER,
    "first_step_s": NUMBER,
    "turns_s": {"type": "array", "items": NUMBER},
    "memory_mb": MAYBE,
    "device_memory_mb": MAYBE,
    "processors_while_waiting": NUMBER,
}
CONTESTANT = {
    **START,
    "name": TEXT,
    "backend": TEXT,
    "is_peer": {"type": "boolean"},
    "compared_with": {"type": ["string", "null"]},
    "ratio": SPREAD,
    "gflops": NUMBER,
    "share_of_product": MAYBE,
    "product_of": {"type": ["string", "null"]},
    "product_size": {"type": ["integer", "null"]},
    "info": {"type": "object", "additionalProperties": TEXT},
    "between_starts": {
        "type": ["object", "null"],
        "required": ["lowest", "highest"],
        "additionalProperties": NUMBER,
    },
    "starts": {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "properties": START,
            "required": list(START),
            "additionalProperties": False,
        },
    },
}
FIELDS = {
    "asked": {"type": "object"},
    "title": TEXT,
    "flops_of_a_step": {"type": "integer"},
    "conventions": {"type": "object", "additionalProperties": TEXT},
    "machine": {"type": "object"},
    "steps_of_a_turn": {"type": "integer"},
    "contestants": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": CONTESTANT,
            "required": list(CONTESTANT),
            "additionalProperties": False,
        },
    },
    "failed": {"type": "object", "additionalProperties": TEXT},
    "left_out": {"type": "array", "items": TEXT},
}
SCHEMA = {
    "type": "object",
    "properties": FIELDS,
    "required": list(FIELDS),
    "additionalProperties": False,
}


def test_quartiles_are_interpolated_and_one_number_is_all_three() -> None:
    assert Spread.of([4.0, 1.0, 3.0, 2.0, 5.0]) == (3.0, 2.0, 4.0)
    assert Spread.of([1.0, 2.0]) == (1.5, 1.25, 1.75)
    assert Spread.of([7.0]) == (7.0, 7.0, 7.0)


def test_speed_is_of_the_median_turn_and_ratios_are_of_each_round() -> None:
    ours, peer = measured(OURS, 1.0, 2.0, 4.0), measured(PEER, 3.0, 2.0, 6.0)
    found = result(ours, peer)
    assert found.speed(ours) == (10.0, 7.5, 15.0), "5 steps of 4 images in 2 s"
    assert found.ratio(peer) == (1.5, 1.25, 2.25), "3, 1 and 1.5: not the ratio of the medians"
    assert found.ratio(ours) is None and found.base(ours) is None


def test_a_peer_is_compared_with_its_own_frameworks_backend_and_the_rest_with_the_first() -> None:
    first, second = measured(OURS, 1.0), measured(OTHER, 2.0)
    peer, linen, own = measured(PEER, 1.0), measured(LINEN, 1.0), measured(OWN, 1.0)
    found = result(first, second, peer, linen, own)
    assert [found.base(one) for one in found.measured] == [None, first, first, second, first]
    alone = result(second, peer)
    assert alone.base(peer) is second, "torch itself was not measured"
    assert result(peer).base(peer) is None


def test_operations_are_counted_by_the_plan_and_training_is_three_passes() -> None:
    once = 2 * count_macs(asked().plan.ops) * 4
    assert asked().flops == once
    assert asked(mode="train").flops == 3 * once
    found = result(measured(OURS, 2.0))
    assert found.gflops(found.measured[0]) == pytest.approx(once * 5 / 2.0 / 1e9)


def test_a_share_is_of_the_fastest_product_on_the_same_kind_of_device() -> None:
    rate = asked().flops * 5 / 2.0
    slow = measured(OURS, 2.0, products=(4 * rate, 2 * rate, 2 * rate), product_size=9)
    fast = measured(OTHER, 2.0, products=(8 * rate,), product_size=8)
    peer = measured(PEER, 2.0)
    found = result(slow, fast, peer)
    assert [found.share(one) for one in found.measured] == pytest.approx([0.125] * 3)
    assert found.reference(peer) is fast
    assert result(peer).share(peer) is None
    elsewhere = measured(OTHER, 2.0, products=(8 * rate,))
    object.__setattr__(elsewhere, "info", {"device": "cuda:0 (X)"})
    found = result(slow, elsewhere)
    assert elsewhere.device == "gpu" and found.share(slow) == pytest.approx(0.5)


def test_a_failure_of_ours_or_ones_own_is_no_sound_result_and_one_of_a_peer_is() -> None:
    ours = measured(OURS, 1.0)
    assert result(ours).is_sound
    assert result(ours, failed={PEER: "x"}).is_sound
    assert not result(ours, failed={OTHER: "x"}).is_sound
    assert not result(ours, failed={OWN: "x"}).is_sound, "who names it wants it"
    assert not result().is_sound


def a_result():
    rate = asked().flops * 5 / 2.0
    ours = measured(OURS, 1.0, 2.0, 4.0, products=(4 * rate,), product_size=9, memory_mb=12.4)
    peer = measured(PEER, 3.0, 2.0, 6.0, memory_mb=20.0, device_mb=8.0, idle=0.5)
    return result(
        ours, peer, failed={LINEN: "starting: no"}, left_out=("mindcv: left out: absent",)
    )


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_fits_where_it_is_printed(width: int) -> None:
    told = lines(a_result(), width)
    assert max(map(len, told)) <= width
    text = "\n".join(told)
    cells = [line.split() for line in told if line.startswith(("torch ", "timm  "))]
    rows = {row[0]: row for row in cells}
    assert rows["torch"][1] == "10" and "1.50" in rows["timm"]
    assert ("no room here for" in text) == (width < 120)
    assert "failed: linen: starting: no" in text and "mindcv: left out: absent" in text


def test_in_a_pipe_nothing_is_left_out() -> None:
    told = lines(a_result(), None)
    heads = next(line for line in told if line.startswith("contestant"))
    for head in ("spread", "its spread", "base", "share", "memory (MB)"):
        assert head in heads
    row = next(line for line in told if line.startswith("timm "))
    assert row.split()[-5:] == ["0.2", "1.5", "20", "+", "8"]
    assert "1.25 to 2.25" in row and "torch" in row


def test_who_works_while_others_have_their_turn_is_told_and_so_is_a_busy_machine() -> None:
    told = notes(a_result())
    assert any(line.startswith("timm took 0.50 of a processor") for line in told)
    assert not any(line.startswith("torch took") for line in told)
    assert not any("load" in line for line in told)
    alone = replace(a_result(), measured=a_result().measured[1:])
    assert not any("took" in line for line in notes(alone)), "there are no others"
    busy = Machine("a CPU", "AVX2", 2, load=3.0)
    assert busy.doubts and "3.0 on 2 processors" in busy.doubts[0]
    assert Machine(load=None).doubts == []


CPUINFO = """processor : 0
model name : A CPU
flags : fpu avx avx2
processor : 1
model name : A CPU
flags : fpu avx avx2
"""


def test_a_machine_is_told_by_its_cpu_and_what_changes_how_libraries_compute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine.os, "environ", {"OMP_NUM_THREADS": "7", "DNNL_X": "1", "HOME": "/"})
    found = machine.this_machine()
    assert (found.cpu, found.isa, found.settings) == ("A CPU", "AVX2", {"DNNL_X": "1"})
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "absent")
    assert machine.this_machine().isa == ""


def test_markdown_has_every_column_and_is_one_table() -> None:
    text = markdown(a_result()).splitlines()
    assert text[0] == "# predict tiny, 8 px, batch 4, float32: 3 rounds of 5 steps"
    rows = [line for line in text if line.startswith("|")]
    assert len(rows) == 4 and len({line.count("|") for line in rows}) == 1


def test_json_has_every_turn_and_only_what_its_schema_says() -> None:
    found = json.loads(json.dumps(a_result().to_dict()))
    jsonschema.validate(found, SCHEMA)
    ours, peer = found["contestants"]
    assert ours["turns_s"] == [1.0, 2.0, 4.0] and peer["ratio"]["median"] == 1.5
    assert peer["compared_with"] == "torch" and ours["compared_with"] is None
    assert ours["images_per_second"] == {"median": 10.0, "low": 7.5, "high": 15.0}
    assert found["failed"] == {"linen": "starting: no"}
    assert ours["between_starts"] is None and len(ours["starts"]) == 1


def test_numbers_table_and_bars_are_left_in_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    check_files(tmp_path, overwrite=False)
    written = [path.name for path in write_files(tmp_path, a_result())]
    assert written == ["bench.json", "bench.md", "bench.png", "bench.svg"]
    jsonschema.validate(json.loads((tmp_path / "bench.json").read_text()), SCHEMA)
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "bench.svg").read_text()
    assert svg.count("<svg") == 1 and "<path" in svg
    with pytest.raises(OutputError, match="exists already; --overwrite replaces it"):
        check_files(tmp_path, overwrite=False)
    check_files(tmp_path, overwrite=True)


def test_nothing_of_an_earlier_benchmark_stays_beside_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = [tmp_path / f"profile{ending}" for ending in (".json", ".csv", ".md")]
    for file in profiles:
        file.write_text("somebody's own")
    write_files(tmp_path, a_result())
    assert [file.read_text() for file in profiles] == ["somebody's own"] * 3
    monkeypatch.setattr("resnet_spec.benchmarking.files.can_draw", lambda: False)
    write_files(tmp_path, a_result())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bench.json", "bench.md"]


def test_who_measured_nobody_replaces_nothing(tmp_path: Path) -> None:
    write_files(tmp_path, a_result())
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert write_files(tmp_path, result(failed={OURS: "starting: no"})) == []
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_bars_say_speed_and_ratio() -> None:
    pytest.importorskip("matplotlib")
    from resnet_spec.benchmarking.drawing import bars_figure

    (axes,) = bars_figure(a_result()).axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([10.0, 20 / 3])
    assert [text.get_text() for text in axes.texts] == ["10", "6.67  (0.67 times torch)"]
    told = "device cpu; a CPU, AVX2\nthreads 1; 3 rounds of 5 steps"
    assert bars_figure(a_result()).get_supxlabel() == told


def test_what_stands_below_the_bars_is_within_the_figure() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from resnet_spec.benchmarking.drawing import bars_figure

    name = "a-peer-with-a-name-that-is-long"
    found = result(measured(OURS, 2.0), measured(replace(PEER, name=name), 3.0))
    cpu = "A Processor of Many Names (R) and Letters (TM) v7 @ 2.20GHz of a Maker"
    machine = replace(found.machine, cpu=cpu, isa="AVX-512 with AMX and a lot more besides")
    figure = bars_figure(replace(found, machine=machine))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure._supxlabel.get_window_extent(canvas.get_renderer())
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0


def test_where_nobody_was_measured_there_are_no_bars(tmp_path: Path) -> None:
    found = result(failed={OURS: "starting: no"})
    assert [path.name for path in write_files(tmp_path, found)] == ["bench.json", "bench.md"]
    assert lines(found, 80)[2] == "failed: torch: starting: no"


def test_a_runs_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        check_files(tmp_path / "file", overwrite=True)
