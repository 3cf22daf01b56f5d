"""What a benchmark leaves in a folder: turns as JSON, the table as Markdown, bars, profiles."""

from __future__ import annotations

from pathlib import Path

from resnet_spec.benchmarking.drawing import bars_figure
from resnet_spec.benchmarking.profile_tables import Profiles, csv_text
from resnet_spec.benchmarking.profile_tables import markdown as profile_markdown
from resnet_spec.benchmarking.results import Result
from resnet_spec.benchmarking.tables import markdown, profiles_of
from resnet_spec.files.writing import write_json, write_text
from resnet_spec.reporting.out_folder import check_out, leave_only
from resnet_spec.reporting.plots import both_files, can_draw, write_figure

_NAME = "bench"


def check_files(out: Path, *, overwrite: bool, profile: bool = False) -> None:
    """Raise DataError or OutputError where nothing can be left in `out`; nothing is touched.

    See `check_out`. profile: whether profiles are left there, too.
    """
    files = [*_files(out), *(_profile_files(out) if profile else [])]
    check_out(out, "a benchmark with its figure", files, overwrite=overwrite)


def write_files(out: Path, result: Result) -> list[Path]:
    """Write bench.json and bench.md and, with matplotlib, the bars; return what was written.

    Where nobody was measured there are no bars. What an earlier benchmark left there, and this one
    has none of, is taken away; but one that measured nobody replaces none. Raises OutputError.
    """
    data, text, *figures = _files(out)
    if data.exists() and not result.measured:
        return []
    earlier = [*figures, *_profile_files(out)] if data.exists() else []
    write_json(data, result.to_dict())
    write_text(text, markdown(result))
    written = [data, text]
    if result.profiles:
        written += _write_profiles(out, profiles_of(result))
    if can_draw() and result.measured:
        written += write_figure(bars_figure(result), figures)
    leave_only(written, earlier)
    return written


def _write_profiles(out: Path, profiles: Profiles) -> list[Path]:
    data, table, text = _profile_files(out)
    write_json(data, {"title": profiles.title, "profiles": [one.to_dict() for one in profiles.all]})
    write_text(table, csv_text(profiles))
    write_text(text, profile_markdown(profiles))
    return [data, table, text]


def _profile_files(out: Path) -> list[Path]:
    return [out / f"profile{ending}" for ending in (".json", ".csv", ".md")]


def _files(out: Path) -> list[Path]:
    return [out / f"{_NAME}.json", out / f"{_NAME}.md", *both_files(out / _NAME)]
