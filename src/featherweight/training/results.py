"""Whether a result of the record comes out of its file again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featherweight.analysis.sizes import measure_file
from featherweight.errors import DataError, FeatherweightError
from featherweight.fileformat import FileReader
from featherweight.files import load_model
from featherweight.training.evaluate import evaluate
from featherweight.training.run import dense_size
from featherweight.training.spec import read_model_and_data

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from featherweight.analysis.results import ResultRecord

#: How far a ratio may be from the one that is claimed, relative.
_RATIO_TOLERANCE = 1e-6


def check_record(record: ResultRecord, file: Path, root: Path, *, images: float = 0.5) -> list[str]:
    """Verify a result's file, measure its size and test it; tell what does not come out as claimed.

    The dense network's error cannot be told from the file, and is not checked.

    Args:
        record: what is claimed.
        file: the compressed file.
        root: what the run file's path in the result is relative to.
        images: how many test images the error may differ by; one or two on another processor, whose sums
            have another order.

    Returns:
        One line for each claim that does not hold; nothing where all do.

    Raises:
        DataError: where the data set is missing, saying which files and how to get them.
    """
    if not file.is_file():
        return [f"{file}: is missing; {record.command} makes it again"]
    try:
        return list(_differences(record, file, root, images))
    except DataError:
        raise
    except FeatherweightError as error:
        return [f"{record.name}: {error}"]


def _differences(record: ResultRecord, file: Path, root: Path, images: float) -> Iterator[str]:
    model, data = read_model_and_data(root / record.run_file)
    network = model.create()
    dense_bytes = dense_size(network)
    with FileReader(file) as reader:
        reader.verify()
        sizes = measure_file(reader)
    gone = dense_bytes / sizes.dense_bytes  # channels that were removed count as what they were
    load_model(network, file)
    dataset = data.create()
    facts = (
        ("model", record.model, type(network).__name__),
        ("dataset", record.dataset, dataset.name),
        ("bytes", record.bytes, sizes.file_bytes),
        ("dense_bytes", record.dense_bytes, dense_bytes),
    )
    for what, claimed, found in facts:
        if claimed != found:
            yield f"{record.name}: {what}: claimed {claimed}, found {found}"
    ratios = (("ratio_h", record.ratio_h, sizes.ratio_h), ("ratio_n", record.ratio_n, sizes.ratio_n))
    for what, ratio, of_file in ratios:
        if abs(ratio / (of_file * gone) - 1) > _RATIO_TOLERANCE:
            yield f"{record.name}: {what}: claimed {ratio:.4f}, found {of_file * gone:.4f}"
    tested = evaluate(network, dataset.test_batches())
    wrong = abs(tested.error_percent - record.error_percent) * tested.examples / 100
    if wrong > images:
        yield (
            f"{record.name}: error_percent: claimed {record.error_percent}, found {tested.error_percent:.4f} "
            f"on {tested.examples:,} images of {dataset.name}"
        )
