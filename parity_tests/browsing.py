"""Pages in a real browser, where one is installed: how wide they are at a given width."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars"),
)
# A frame is as narrow as one wants, which a window is not; it may be looked into with the option.
FRAME = """<!doctype html><p id="found"></p>
<iframe id="frame" width="{width}" height="800" style="border: 0" src="{address}"></iframe>
<script>
  frame.onload = () => {{
    const inner = frame.contentDocument;
    const cut = (e) => e && (getComputedStyle(e).overflowX !== "visible" || cut(e.parentElement));
    const words = [...inner.querySelectorAll("td, th")].filter((e) => e.textContent.trim());
    const shredded = words.filter((e) => {{
      const range = inner.createRange();
      range.selectNodeContents(e);
      return range.getClientRects().length > e.textContent.trim().split(/[^A-Za-z0-9]+/).length + 2;
    }});
    found.textContent = `width ${{inner.documentElement.scrollWidth}} shreds ${{shredded.length}}`;
  }};
</script>
"""


def browser() -> str:
    """Return the browser's program, or skip the test."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(BROWSERS)})")
    return found


def looked_at(page: Path, width: int, folder: Path) -> tuple[int, int]:
    """Return how wide `page` is in a frame of `width`, and how many cells it shreds."""
    frame = folder / f"frame{width}.html"
    frame.write_text(FRAME.format(width=width, address=page.as_uri()), encoding="utf-8")
    options = [*OPTIONS, "--allow-file-access-from-files", "--virtual-time-budget=5000"]
    options += [f"--user-data-dir={folder / 'profile'}", "--dump-dom", frame.as_uri()]
    done = subprocess.run(
        [browser(), *options], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r"width (\d+) shreds (\d+)", done.stdout)
    assert found is not None, done.stdout
    return int(found[1]), int(found[2])
