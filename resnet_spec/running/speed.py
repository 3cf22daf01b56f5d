"""Measure the training loop's speed, and size its chunks."""

from __future__ import annotations

# A chunk is sized to take about this long, so that progress moves and Ctrl-C is answered, while the
# device is waited for only once a chunk.
_CHUNK_SECONDS = 1.0


def speed_text(images_per_second: float, before: str = "") -> str:
    """Return a speed in words, after `before`; nothing where it is 0: nobody has measured it."""
    return f"{before}{images_per_second:.0f} images/s" if images_per_second else ""


class Speed:
    """Images per second of the training loop, the first (compiling) step apart."""

    def __init__(self) -> None:
        self.first_step_s = 0.0
        self._images = 0
        self._steps = 0
        self._seconds = 0.0

    def add(self, images: int, steps: int, seconds: float) -> None:
        """Count a chunk."""
        if self.first_step_s == 0.0:
            self.first_step_s = seconds
        else:
            self._images += images
            self._steps += steps
            self._seconds += seconds
        self._step_seconds = seconds / steps

    @property
    def images_per_second(self) -> float:
        """The mean over all chunks but the first; 0 before there is one."""
        return self._images / self._seconds if self._seconds else 0.0

    @property
    def compile_s(self) -> float | None:
        """The first step's seconds less those of a mean later step; None before there is one."""
        if not self._steps:
            return None
        return max(0.0, self.first_step_s - self._seconds / self._steps)

    def chunk_steps(self, left: int) -> int:
        """Return how many of the `left` steps to take next; 1 at first, to time the compilation."""
        if self.first_step_s == 0.0 or self._seconds == 0.0:
            return 1
        return max(1, min(left, int(_CHUNK_SECONDS / self._step_seconds)))
