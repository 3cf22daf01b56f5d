"""What MkDocs asks while it builds: links to files beside docs/ become plain text.

The pages are read on code hosts, too, where `../resnet_spec/contract.py` is a link that works.
"""

from __future__ import annotations

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
