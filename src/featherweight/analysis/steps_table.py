"""What each step of a run gave, as Markdown: an ablation from the run's own files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featherweight.analysis.results_tables import markdown_table
from featherweight.analysis.text import times

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Step:
    """How a network stands after one step.

    Attributes:
        what: the step.
        bytes: of a file of the network as it then is.
        error_percent: top-1 error on the validation images.
        seconds: that the step took.
    """

    what: str
    bytes: int
    error_percent: float
    seconds: float


@dataclass(frozen=True)
class Ablation:
    """The steps of one run.

    Attributes:
        name: of the run.
        about: the first line of its recipe.
        images: of the validation split.
        steps: in order; the first is the dense network.
        test_error_percent: of the file, where the run has been tested.
        dense_bytes: of the network before the first step.
    """

    name: str
    about: str
    images: int
    steps: tuple[Step, ...]
    dense_bytes: int
    test_error_percent: float | None = None


def ablation_page(title: str, runs: Sequence[Ablation]) -> str:
    """A page with a table for each run."""
    parts = [f"# {title}: what each step gave"]
    parts.append(
        "<!-- written by benchmarks/results.py ablation from the files of the runs -->\n\n"
        "Bytes are those of a file with the network as it stands after the step; errors are of the "
        "validation images, which the run has not trained on, so that no choice is made on the test set. "
        "Seconds are of one machine that did other work beside."
    )
    header = ("step", "bytes", "smaller", "validation error", "seconds")
    for run in runs:
        rows = [
            (
                step.what,
                f"{step.bytes:,}",
                times(run.dense_bytes / step.bytes),
                f"{step.error_percent:.2f} %",
                f"{step.seconds:.0f}" if step.seconds >= 1 else "under 1",
            )
            for step in run.steps
        ]
        about = f"{run.about} {run.images:,} validation images."
        if run.test_error_percent is not None:
            about += f" Test error of the file: {run.test_error_percent:.2f} %."
        parts += [f"## {run.name}", about, markdown_table(header, rows, "lrrrr")]
    return "\n\n".join(parts) + "\n"
