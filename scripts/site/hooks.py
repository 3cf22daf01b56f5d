"""What MkDocs asks while it builds: links to files beside docs/ become plain text, and consoles
are copied without prompts and output.

The pages are read on code hosts, too, where `../resnet_spec/contract.py` is a link that works.
"""

from __future__ import annotations

import html as markup
import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Replace the links of a page that lead out of docs/ by their text."""
    docs, folder = Path(config.docs_dir).resolve(), Path(page.file.abs_src_path).parent

    def plain(match: re.Match[str]) -> str:
        text, target = match.groups()
        if ":" in target:
            return match.group()
        path = (folder / target).resolve()
        leads_out = path.exists() and not path.is_relative_to(docs)
        return f"`{text}`" if leads_out else match.group()

    return _LINK.sub(plain, markdown)


_BLOCK = re.compile(r'<div class="highlight">(<pre>.*?</pre></div>)', flags=re.DOTALL)
_PROMPT = "$ "
_COMMENT = re.compile(r"""^((?:[^'"#]|'[^']*'|"[^"]*")*?)\s{2,}# .*$""")
"""What is typed, with its quoted texts, and the comment behind it."""


def on_page_content(html: str, **_: Any) -> str:
    """Give every block with prompts what its button copies; the theme reads it in `data-copy`."""

    def with_commands(match: re.Match[str]) -> str:
        text = markup.unescape(re.sub(r"<[^>]+>", "", match.group(1)))
        found = commands(text)
        if not found:
            return match.group()
        copied = markup.escape("\n".join(found)).replace("\n", "&#10;")
        return f'<div class="highlight" data-copy="{copied}">{match.group(1)}'

    return _BLOCK.sub(with_commands, html)


def commands(text: str) -> list[str]:
    """Return the lines of a console that are typed, without prompts and the comments behind them.

    A line that ends with a backslash goes on in the next one.
    """
    found: list[str] = []
    goes_on = False
    for line in text.splitlines():
        if not goes_on and not line.startswith(_PROMPT):
            continue
        command = _COMMENT.sub(r"\1", line.removeprefix(_PROMPT)).rstrip()
        found.append(command)
        goes_on = command.endswith("\\")
    return found
