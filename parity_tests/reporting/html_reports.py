"""Reports to be drawn as HTML, and a reader of pages."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

from resnet_spec.reporting.report import Finding, Item, Report, Row, Verdict

EVIL = "<script>alert('&\"')</script>"
BACKENDS = ("torch", "flax", "mindspore")
LIMIT = 8.0


def an_item(name: str, multiples: float, floor: float = 1e-7) -> Item:
    """Return an item that is `multiples` of its floor off, with the verdict that this means."""
    verdict: Verdict = "different"
    bounds: dict[Verdict, float] = {"suspect": 10 * LIMIT, "rounding": LIMIT, "equal": 0.0}
    for better, bound in bounds.items():
        if multiples <= bound:
            verdict = better
    error = multiples * floor
    return Item(name, verdict, 3 * error, error, 9 * error, 1 - error**2, (0, 2, 1), floor)


def many(count: int, factor: float = 1.0) -> tuple[Item, ...]:
    """Return items of four stages with floors that grow, errors around half their limit."""
    return tuple(
        an_item(
            f"layer{1 + 4 * n // count}.{n}.conv{1 + n % 3} (train)",
            factor * (2 + math.sin(n) + math.sin(0.13 * n)),
            1e-8 * 1.004**n,
        )
        for n in range(count)
    )


def full_report(count: int = 40) -> Report:
    """Return a report with every verdict, infinite errors, empty rows and names that bite."""
    lost = Item("fc.weight", "different", math.inf, math.inf, math.inf, math.nan, (), 1e-7)
    exact = Item("conv1.weight", "different", 1e-3, 1e-2)
    odd = (an_item(EVIL, 3), an_item("fine", 0), an_item("high", 40), an_item("bad", 4e4), lost)
    steps = range(30)
    losses = tuple(2.3 * math.exp(-0.03 * step) for step in steps)
    curves = {
        "loss": tuple(x * (1 + 1e-7 * 1.2**step) for step, x in enumerate(losses)),
        "reference loss": losses,
        "weights": tuple(1e-7 * 1.2**step for step in steps),
        EVIL: (0.0, 1e-6, math.nan, 1e-5, math.inf, 1e-5),
    }
    ends = (an_item("loss", 5), an_item("weights", 2))
    rows = (
        Row("torch", "names", "equal"),
        Row("flax", "names", "different", (exact,)),
        *(Row(name, "activations", "rounding", many(count), LIMIT) for name in BACKENDS[:2]),
        Row("mindspore", "activations", "different", (*many(count, 1.4), *odd), LIMIT),
        Row("torch", "statistics", "suspect", odd[:3], LIMIT, note=f"a note {EVIL}"),
        Row("flax", "statistics", "undecided", note="out of memory"),
        Row("torch", "trajectory", "rounding", ends, LIMIT, curves=curves),
        Row("mindspore", "trajectory", "rounding", ends, LIMIT, curves=curves),
    )
    setting = {"network": EVIL, "batch": 8, "input": (64, 64), "recipe": {"momentum": 0.9}}
    environment = {
        name: {"framework": name, "version": "1.0", "device": "cpu"} for name in BACKENDS
    }
    findings = (
        Finding("mindspore", "forward", EVIL, 4e4, "padding", "padded (0, 1), not (1, 0)", ("fc",)),
        Finding("flax", "update", "fc.weight", math.inf),
    )
    return Report(f"parity of {EVIL}", rows, setting, environment, findings)


class Page(HTMLParser):
    """Reads a page; notes elements that do not balance, and keeps the others."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.wrong: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        self.wrong += self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def count(self, tag: str, class_: str = "") -> int:
        classes = [(a.get("class") or "").split() for t, a in self.found if t == tag]
        return sum(not class_ or class_ in each for each in classes)


def table_cells(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table of items in the section called `heading`, line by line."""
    section = page[page.index(f"<h2>{heading}</h2>") :]
    body = section[section.index('class="items"') : section.index("</tbody>")]
    return [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in body.split("<tr>")[2:]]
