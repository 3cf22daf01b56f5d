"""What is said where a run's memory runs out: what it needs, and how it needs less."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from resnet_spec.errors import BackendError, out_of_memory, problem
from resnet_spec.planning.costs import describe
from resnet_spec.running.evaluate import AT_ONCE
from resnet_spec.running.runs import Run
from resnet_spec.running.stages import stages_of


@contextmanager
def memory_told(run: Run) -> Generator[None]:
    """Raise BackendError, with what `run` needs and how it needs less, where memory runs out."""
    try:
        yield
    except Exception as error:
        said = out_of_memory(error)
        if said is None:
            raise
        raise BackendError(problem("memory", said, _needed(run), _remedy(run))) from error


def _needed(run: Run) -> str:
    """Return in words what a step keeps at its largest, and an evaluation looks at."""
    largest = max((stage.plan for stage in stages_of(run)), key=lambda plan: plan.input.height)
    images = run.recipe.batch // run.recipe.accumulate
    kept = images * describe(largest).activation_bytes / 1e9
    seen = (run.evaluated_plan or run.plan).input.height
    told = f"{kept:,.0f}" if kept >= 10 else f"{kept:.2g}"
    return (
        f"is not enough: a pass over {images} images of {largest.input.height} px keeps about "
        f"{told} GB in float32, and evaluations take {min(AT_ONCE, len(run.judged))} of {seen} px "
        "at once"
    )


def _remedy(run: Run) -> str:
    less = ["lower evaluation.size"] if run.recipe.evaluation.size is not None else []
    less += ["lower batch or --input-size", "raise accumulate"]
    less += ["lower augment.progressive"] if run.recipe.augment.progressive else []
    less += ["set remat=all"] if run.recipe.remat == "none" else []
    return f"{', '.join(less[:-1])} or {less[-1]}"
