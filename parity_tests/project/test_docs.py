"""The pages: links lead somewhere, the reference is what the program says, commands are real."""

from __future__ import annotations

import html
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import resnet_spec
from resnet_spec.cli.main import COMMANDS, PROGRAM, parser_of

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import make_reference  # pyright: ignore[reportMissingImports]
import reference_python  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts and the site make them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def broken_links(page: Path) -> Iterator[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            yield f"{target}: there is no such file"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            yield f"{target}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A b-c, `d`\n[x](#a-b-c-d) [y](#no) [z](no.md)\n```text\n[w](no)\n```\n")
    assert [line.partition(":")[0] for line in broken_links(page)] == ["#no", "no.md"]


def site_hooks() -> Any:
    described = importlib.util.spec_from_file_location("hooks", ROOT / "scripts/site/hooks.py")
    assert described is not None and described.loader is not None
    hooks = importlib.util.module_from_spec(described)
    described.loader.exec_module(hooks)
    return hooks


CONSOLE = """\
$ resnet-spec list 'a  # b*' --set x=1 \\
    --data "<d>"   # two lines
output of $ this
$ B=2 resnet-spec backends
... done
"""


def test_consoles_are_copied_without_prompts_and_output() -> None:
    hooks = site_hooks()
    copied = [
        "resnet-spec list 'a  # b*' --set x=1 \\",
        '    --data "<d>"',
        "B=2 resnet-spec backends",
    ]
    assert hooks.commands(CONSOLE) == copied
    shown = html.escape(CONSOLE).replace("$ ", '<span class="gp">$ </span>')
    block = f'<p>a</p><div class="highlight"><pre><span></span><code>{shown}</code></pre></div>'
    page = hooks.on_page_content(block)
    found = re.search(r'<div class="highlight" data-copy="([^"]*)">', page)
    assert found is not None and html.unescape(found[1]).splitlines() == copied
    assert page.replace(found.group(), '<div class="highlight">') == block
    code = block.replace("$ ", "")
    assert hooks.on_page_content(code) == code


def test_on_the_site_links_out_of_docs_are_text() -> None:
    hooks = site_hooks()
    page = SimpleNamespace(file=SimpleNamespace(abs_src_path=str(ROOT / "docs" / "spec.md")))
    config = SimpleNamespace(docs_dir=str(ROOT / "docs"))
    text = "[a](../resnet_spec/describing/spec.py) [b](data.md#x) ![c](drift.png) [d](../no.py) [e](https://f)"
    shown = hooks.on_page_markdown(text, page=page, config=config)
    assert shown == text.replace("[a](../resnet_spec/describing/spec.py)", "`a`")


@pytest.mark.parametrize("name", ["spec.md", "recipe.md", "cli.md", "python.md"])
def test_the_reference_is_up_to_date(name: str) -> None:
    written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert written == make_reference.pages()[name], "run: python scripts/make_reference.py"


def test_every_command_has_a_section_and_every_option_a_row() -> None:
    text = make_reference.pages()["cli.md"]
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert [section.partition("\n")[0] for section in sections] == list(COMMANDS)
    for name, section in zip(COMMANDS, sections, strict=True):
        for option in parser_of(name)._option_string_actions:
            assert option in ("-h", "--help") or f"`{option}" in section, f"{name} {option}"


def test_every_public_name_has_a_docstring_and_an_entry() -> None:
    assert {*resnet_spec.__all__} - {"__version__"} == reference_python.documented()
    assert reference_python.undocumented() == []
    text = make_reference.pages()["python.md"]
    entries = re.findall(r"^### (\w+)$", text, flags=re.MULTILINE)
    assert len(entries) == len(set(entries)) > 50  # Their anchors are theirs alone.
    assert "- `seed`: the same seed gives the same weights in every backend." in text
    assert "<function" not in text and "<lambda" not in text and " at 0x" not in text


def commands_of(page: Path) -> Iterator[list[str]]:
    """Yield the words of every command of ours in the page's `console` and `sh` fences."""
    for kind, body in FENCE.findall(page.read_text(encoding="utf-8")):
        if kind not in ("console", "sh"):
            continue
        for line in body.replace("\\\n", " ").splitlines():
            if line.startswith("$ ") or kind == "sh":
                yield from _commands(line.removeprefix("$ "))


def _commands(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|>;&")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not set(word) <= set("|>;&"):
            words.append(word)
            continue
        while words and re.fullmatch(r"\w+=.*", words[0]):
            del words[0]  # Variables of the environment.
        if words and words[0] == PROGRAM:
            yield words[1:]
        words = []


def documented() -> list[tuple[str, list[str]]]:
    found = [(name_of(page), words) for page in PAGES for words in commands_of(page)]
    assert len(found) > 40
    return found


@pytest.mark.parametrize(("page", "words"), documented(), ids=lambda value: str(value)[:60])
def test_commands_on_the_pages_are_real(page: str, words: list[str]) -> None:
    assert words[0] in COMMANDS, words
    parser_of(words[0]).parse_all(words[1:])  # Ends the test with its one line where it refuses.


def test_commands_are_found_in_pipes_and_after_variables(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ A=1 resnet-spec list 'x*' | head > f  # a note\nout\n```\n")
    assert list(commands_of(page)) == [["list", "x*"]]
