"""The HTML report: well formed, self-contained, escaped, the same every time, and small."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from browsing import looked_at
from html_reports import BACKENDS, EVIL, LIMIT, Page, an_item, full_report, many, table_cells

from resnet_spec.reporting.report import SEVERITY, Report, Row
from resnet_spec.reporting.report_html import to_html, write_html


def test_elements_balance() -> None:
    for report in (full_report(), Report("nothing", ())):
        page = Page(to_html(report))
        assert page.wrong == []
        assert page.found[0][0] == "html"


def test_a_tag_left_open_is_seen() -> None:
    assert Page("<p><b>x</p>").wrong
    assert Page("<p>").wrong == ["p"]


def test_nothing_is_loaded_or_referred_to() -> None:
    text = to_html(full_report())
    assert not re.search(r"https?:|//\w+\.\w|url\(|@import|@font-face", text)
    for tag, attributes in Page(text).found:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "use", "image")
        assert not attributes.keys() & {"src", "srcset", "action", "style", "onclick", "onload"}
        assert (attributes.get("href") or "#").startswith("#")


def test_links_lead_to_sections() -> None:
    found = Page(to_html(full_report())).found
    places = [a["id"] for _, a in found if "id" in a]
    links = {a["href"] for tag, a in found if tag == "a"}
    assert links == {f"#{place}" for place in places}
    assert len(places) == len(set(places)) == 4


def test_names_and_notes_are_escaped() -> None:
    page = Page(to_html(full_report()))
    assert page.count("script") == 1
    assert "alert" not in "".join(page.texts["script"])
    shown = "".join("".join(texts) for tag, texts in page.texts.items() if tag != "script")
    # The title twice, the finding, the note, the setting, items, tooltips and curves.
    assert shown.count(EVIL) >= 8


@pytest.mark.parametrize("name", ["\x00\x1b[31m", "a\ud800b", "\u202egnp.exe", "]]><!--", "\uffff"])
def test_a_name_that_cannot_be_printed_is_written_all_the_same(name: str, tmp_path: Path) -> None:
    report = Report(name, (Row(name, name, "different", (an_item(name, 1e4),), LIMIT, name),))
    write_html(report, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert Page(text).wrong == []
    assert not re.search("[\x00-\x08\x0e-\x1f\u202e\uffff]", text)


def test_the_policy_allows_the_page_s_own_script_and_style_only() -> None:
    page = Page(to_html(full_report()))
    (policy,) = (a["content"] for _, a in page.found if "http-equiv" in a)
    assert policy is not None and "default-src 'none'" in policy and "unsafe" not in policy
    for kind in ("script", "style"):
        digest = hashlib.sha256("".join(page.texts[kind]).encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_html(full_report(), path)
    first = path.read_bytes()
    write_html(full_report(), path)
    assert path.read_bytes() == first == to_html(full_report()).encode()
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_report_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")

    def full(self: Path, target: Path) -> Path:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_html(full_report(), path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_thousand_items_of_three_backends_stay_small() -> None:
    rows = [Row(name, "activations", "rounding", many(1000), LIMIT) for name in BACKENDS]
    text = to_html(Report("large", tuple(rows)))
    assert len(text.encode()) < 500_000
    levels = ("activations", "gradients", "statistics", "update")
    every = [replace(row, level=level) for level in levels for row in rows]
    assert len(to_html(Report("larger", tuple(every))).encode()) < 1_500_000


def test_every_verdict_has_its_banner() -> None:
    titles: dict[str, str] = {}
    for verdict in SEVERITY:
        text = to_html(Report("title", (Row("torch", "logits", verdict),)))
        (titles[verdict],) = Page(text).texts["h1"]
    assert titles["equal"] == titles["rounding"] == "They agree"
    assert titles["different"] == "They differ"
    assert len(set(titles.values())) == 4


def test_a_report_without_rows_does_not_say_that_they_agree() -> None:
    text = to_html(Report("nothing", ()))
    assert Page(text).texts["h1"] == ["Nothing was compared"]
    assert '"banner undecided"' in text and "agree" not in text.partition("<body>")[2]


def test_what_was_found_is_said_in_words() -> None:
    page = to_html(full_report())
    told = "".join(Page(page).texts["li"])
    assert "worst: fc.weight, infinitely far off" in told
    assert "worst: conv1.weight, where nothing may differ" in told
    assert "Comparisons: 2 different, 1 suspect, 1 undecided, 4 rounding, 1 equal." in page
    assert "worst: high, 40 × its floor; rounding up to 8 × the floor; a note" in told


def test_findings_stand_before_everything_else() -> None:
    heads = Page(to_html(full_report())).texts["h2"]
    levels = ["names", "activations", "statistics", "trajectory"]
    assert heads[:2] == ["Where and why", "Summary"]
    assert heads[3:] == [*levels, "Setting", "Environment"]


def test_what_differs_without_a_finding_is_said_to_have_none() -> None:
    report = Report("title", (Row("torch", "logits", "different"),))
    assert "No single node was found" in to_html(report)
    assert "Where and why" not in to_html(Report("title", (Row("torch", "logits", "equal"),)))


def test_the_matrix_has_a_cell_for_every_backend_and_level() -> None:
    text = to_html(full_report())
    matrix = text[text.index('class="matrix"') :].partition("</table>")[0]
    assert matrix.count("<td") == len(BACKENDS) * 4
    assert matrix.count('title="not compared"') == 3
    assert "4e+04 × floor" not in matrix  # The infinite error is the worst one, without a number.
    assert "40 × floor" in matrix


def test_levels_without_a_difference_share_a_section() -> None:
    rows = (
        *(Row(name, "names", "equal") for name in BACKENDS),
        Row("torch", "init", "equal", (an_item("a", 0), an_item("b", 0))),
        Row("torch", "logits", "rounding", (an_item("a", 1),), LIMIT),
        Row("flax", "counts", "equal", note="a note"),
    )
    page = to_html(Report("title", rows))
    heads = Page(page).texts["h2"]
    assert heads == ["Summary", "How to read it", "logits", "counts", "Equal, bit by bit"]
    assert '<li id="level-1"><b>names</b>: torch, flax, mindspore</li>' in page
    assert '<li id="level-2"><b>init</b> (2 items): torch</li>' in page
    assert page.count('href="#level-1"') == 3


@pytest.mark.parametrize("width", [360, 600])
def test_a_narrow_window_keeps_the_page_and_its_words_whole(width: int, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write_html(full_report(), page)
    assert looked_at(page, width, tmp_path) == (width, 0)


def test_a_table_has_the_worst_first() -> None:
    lines = table_cells(to_html(full_report()), "activations")
    assert [line[1] for line in lines[:3]] == ["fc.weight", "bad", "high"]
    assert lines[0][3:6] == ["∞", "1.0e-07", "∞"]
    assert lines[1][0] == "mindspore" and lines[1][5] == "4e+04" and lines[1][9] == "0, 2, 1"


def test_a_table_holds_200_items_and_says_how_many_more() -> None:
    rows = tuple(Row(name, "update", "rounding", many(100), LIMIT) for name in BACKENDS)
    text = to_html(Report("title", rows))
    assert len(table_cells(text, "update")) == 200
    assert "the worst 200 of 300 items (100 more are not shown)" in text
    short = to_html(Report("title", rows[:2]))
    assert "200 items, worst first" in short and "not shown" not in short


def test_a_few_items_are_told_by_an_unfolded_table_alone() -> None:
    items = tuple(an_item(f"i{n}", 1 + n) for n in range(5))
    for count, charts in ((4, 0), (5, 1)):
        rows = (Row("torch", "logits", "rounding", items[:count], LIMIT),)
        page = Page(to_html(Report("title", rows)))
        assert page.count("svg") == charts
        assert sum("open" in a for _, a in page.found) == 1 - charts
