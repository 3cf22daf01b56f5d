"""The frame of every page: one file that loads nothing, with its own style and script alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from importlib.resources import files

from resnet_spec.printing.markup import Markup, element, join


def document(title: str, body: Iterable[str], *, figures: bool = False) -> Markup:
    """Return a whole HTML document.

    figures: whether `body` holds SVG with style attributes, which the page's policy then allows.
    """
    return join(
        [
            Markup("<!doctype html>\n"),
            element("html", _head(title, figures), element("body", *body), lang="en"),
            "\n",
        ]
    )


def _head(title: str, figures: bool) -> Markup:
    style, script = _own("page.css"), _own("page.js")
    # Nothing but these two texts may run or be applied, whatever a name might smuggle in.
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    if figures:
        policy += "; style-src-attr 'unsafe-inline'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", style),
        element("script", script),
    )


def _own(name: str) -> Markup:
    text = files("resnet_spec.reporting.html").joinpath(name).read_text(encoding="utf-8")
    return Markup(text.replace("\r\n", "\n"))


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
