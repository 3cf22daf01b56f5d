"""How many threads NumPy's products take while frameworks compile and compute beside them.

Threads of OpenBLAS that wait for each other keep their processors busy: with one on each processor
they and the framework's compiler hold each other up, and on two cores all takes longer than one
after the other.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController  # pyright: ignore[reportMissingTypeStubs]

from resnet_spec.running.child_processes import usable_processors


@contextmanager
def one_processor_left() -> Generator[None]:
    """Have NumPy's products leave a processor to others, where there is more than one.

    Of the whole process, and for as long as the context lasts. Numbers that were set lower stay.
    """
    libraries: Any = ThreadpoolController()
    found: list[dict[str, Any]] = libraries.info()
    known = [library["num_threads"] for library in found if library["user_api"] == "blas"]
    with libraries.limit(limits=min([max(1, usable_processors() - 1), *known]), user_api="blas"):
        yield
