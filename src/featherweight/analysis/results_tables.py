"""The record as Markdown: ours beside what is published, the README's table, and the comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featherweight.analysis.text import times
from featherweight.errors import RecipeError
from featherweight.strict import build, read_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from featherweight.analysis.comparison import Comparison
    from featherweight.analysis.results import ResultRecord

#: What stands around the README's table; the text between them is replaced.
BEGIN, END = "<!-- results: written by make results-table -->", "<!-- end of results -->"

_NOTHING = "–"


@dataclass(frozen=True)
class PublishedRow:
    """A figure that others published.

    Attributes:
        method: and its year.
        ratio: how much smaller, a number or a range.
        count: how that was counted.
        source: where it stands.
        error: top-1 error, percent.
        bytes: of the coded file.
    """

    method: str
    ratio: str
    count: str
    source: str
    error: float | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Group:
    """A network on a data set, and what is published of it.

    Attributes:
        title: for readers.
        model: class of the network.
        dataset: name of the data set.
        rows: what others published.
    """

    title: str
    model: str
    dataset: str
    rows: tuple[PublishedRow, ...] = ()


@dataclass(frozen=True)
class Published:
    """All groups, in the order of the tables."""

    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        keys = [(group.model, group.dataset) for group in self.groups]
        if len(set(keys)) != len(keys):
            raise RecipeError("groups: the same model and data set are there twice")

    def with_all(self, records: Iterable[ResultRecord]) -> tuple[Group, ...]:
        """The groups, and one more for each network and data set that none of them is of."""
        keys = dict.fromkeys((record.model, record.dataset) for record in records)
        known = {(group.model, group.dataset) for group in self.groups}
        return self.groups + tuple(Group(f"{m}, {d}", m, d) for m, d in keys if (m, d) not in known)


def load_published(path: str | Path) -> Published:
    """Read the published rows.

    Raises:
        RecipeError: for anything that cannot be meant as written.
    """
    return build(Published, read_mapping(path), str(path))


def readme_table(records: Sequence[ResultRecord], published: Published) -> str:
    """One row a result: the network, the command, errors, bytes and the three counts."""
    header = ("network", "command", "error, dense → file", "bytes", "smaller", "*H*", "*N*")
    rows = []
    for group in published.with_all(records):
        rows += [
            (
                group.title,
                f"`{record.command}`",
                f"{_dense_error(record)} → {record.error_percent:.2f} %",
                f"{record.bytes:,}",
                f"**{times(record.ratio)}**",
                times(record.ratio_h),
                times(record.ratio_n),
            )
            for record in _of(records, group)
        ]
    return markdown_table(header, rows, "lllrrrr")


def record_tables(records: Sequence[ResultRecord], published: Published) -> str:
    """A section for each network that there is a result of, our rows first and bold."""
    header = ("", "top-1 error", "bytes", "smaller", "counted", "source")
    sections = []
    for group in published.with_all(records):
        ours = _of(records, group)
        if not ours:
            continue
        rows: list[tuple[str, ...]] = [
            (
                f"**{record.name}**",
                f"**{record.error_percent:.2f} %**",
                f"**{record.bytes:,}**",
                f"**{times(record.ratio)}**",
                "B",
                f"`{record.command}`",
            )
            for record in ours
        ]
        rows += [_published_cells(row) for row in group.rows]
        sections.append(f"### {group.title}\n\n{markdown_table(header, rows, 'lrrrll')}")
    return "\n\n".join(sections)


def detail_table(records: Sequence[ResultRecord]) -> str:
    """All that the results say of our own rows."""
    header = ("", "error, dense", "error, file", "bytes, dense", "bytes, file", "B", "*H*", "*N*", "seed")
    rows = [
        (
            record.name,
            _dense_error(record),
            f"{record.error_percent:.2f} %",
            f"{record.dense_bytes:,}",
            f"{record.bytes:,}",
            times(record.ratio),
            times(record.ratio_h),
            times(record.ratio_n),
            str(record.seed),
            f"{record.seconds / 60:.1f}",
            record.note or ("" if record.shipped else "over 1 MB: the command makes the file again"),
        )
        for record in records
    ]
    return markdown_table((*header, "minutes of training", ""), rows, "lrrrrrrrrrl")


def seeds_table(records: Sequence[ResultRecord]) -> str:
    """Mean and worst over the seeds beside the shipped file; empty where no result has several."""
    header = ("", "seeds", "error, shipped", "mean", "worst", "bytes, shipped", "mean bytes", "largest")
    rows = []
    for record in records:
        mean, worst = record.mean_error_percent, record.worst_error_percent
        if mean is None or worst is None:
            continue
        sizes = [result.bytes for result in record.seeds]
        rows.append(
            (
                record.name,
                ", ".join(str(result.seed) for result in record.seeds),
                f"{record.error_percent:.2f} %",
                f"{mean:.3f} %",
                f"{worst:.2f} %",
                f"{record.bytes:,}",
                f"{sum(sizes) / len(sizes):,.0f}",
                f"{max(sizes):,}",
            )
        )
    return markdown_table(header, rows, "llrrrrrr") if rows else ""


def comparison_tables(comparison: Comparison) -> str:
    """A table for each network of the comparison."""
    header = ("", "bytes", "smaller", "top-1 error")
    sections = []
    for network in comparison.networks:
        rows = [
            (
                row.what,
                f"{row.bytes:,}",
                times(network.dense_bytes / row.bytes),
                _NOTHING if row.error_percent is None else f"{row.error_percent:.2f} %",
            )
            for row in network.rows
        ]
        sections.append(f"### {network.name}\n\n{markdown_table(header, rows, 'lrrr')}")
    return "\n\n".join(sections)


def put_between(text: str, table: str, where: str) -> str:
    """Replace what stands between :data:`BEGIN` and :data:`END`.

    Raises:
        RecipeError: where the two are not there once, in this order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise RecipeError(f"{where}: must hold the lines {BEGIN!r} and {END!r} once, in this order")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}"


def _dense_error(record: ResultRecord) -> str:
    """The error of the dense network, where there was one."""
    return "–" if record.error_dense_percent is None else f"{record.error_dense_percent:.2f} %"


def _of(records: Iterable[ResultRecord], group: Group) -> list[ResultRecord]:
    mine = [record for record in records if (record.model, record.dataset) == (group.model, group.dataset)]
    return sorted(mine, key=lambda record: record.bytes)


def _published_cells(row: PublishedRow) -> tuple[str, ...]:
    return (
        row.method,
        _NOTHING if row.error is None else f"{row.error:g} %",
        _NOTHING if row.bytes is None else f"{row.bytes:,}",
        f"{row.ratio}×",
        row.count,
        row.source,
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], alignment: str) -> str:
    """A table in Markdown; ``alignment`` has an ``l`` or an ``r`` for each column."""
    marks = {"l": "---", "r": "--:"}
    lines = [header, [marks[side] for side in alignment], *rows]
    escaped = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
