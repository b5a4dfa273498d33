"""Results of the record: what is read, what is refused, and the tables made from them."""

from __future__ import annotations

import json

import pytest

from featherweight.analysis.results import load_record, load_records
from featherweight.analysis.results_tables import (
    BEGIN,
    END,
    Group,
    Published,
    PublishedRow,
    detail_table,
    put_between,
    readme_table,
    record_tables,
    seeds_table,
)
from featherweight.errors import RecipeError

RESULT = {
    "name": "small",
    "model": "LeNet300",
    "dataset": "MNIST",
    "error_dense_percent": 1.5,
    "error_percent": 1.25,
    "bytes": 5000,
    "dense_bytes": 1_000_000,
    "ratio": 200.0,
    "ratio_h": 180.0,
    "ratio_n": 40.0,
    "seconds": 90.0,
    "seed": 0,
    "command": "featherweight run recipes/small.yaml",
    "file": "small.fwt",
}
SEEDS = [
    {"seed": 0, "error_dense_percent": 1.5, "error_percent": 1.25, "bytes": 5000},
    {"seed": 1, "error_dense_percent": 1.4, "error_percent": 1.75, "bytes": 5200},
]


def write(folder, **changes):
    result = {key: value for key, value in {**RESULT, **changes}.items() if value is not None}
    path = folder / "small.json"
    path.write_text(json.dumps(result), encoding="utf-8")
    return path


def test_a_result_is_read_whole(tmp_path):
    record = load_record(write(tmp_path, seeds=SEEDS))
    assert (record.error_percent, record.bytes, record.run_file) == (1.25, 5000, "recipes/small.yaml")
    assert (record.mean_error_percent, record.worst_error_percent) == (1.5, 1.75)


def test_a_network_pruned_from_scratch_has_no_dense_error(tmp_path):
    path = tmp_path / "small.json"
    path.write_text(json.dumps({**RESULT, "error_dense_percent": None}), encoding="utf-8")
    record = load_record(path)
    assert record.error_dense_percent is None
    assert "| – → 1.25 % |" in readme_table([record], Published(()))
    assert "| small | – | 1.25 % |" in detail_table([record])


def test_one_seed_has_no_mean(tmp_path):
    record = load_record(write(tmp_path, seeds=SEEDS[:1]))
    assert record.mean_error_percent is None
    assert seeds_table([record]) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bytes": None}, "bytes is missing"),
        ({"error": 1.0}, "unknown key 'error'; known"),
        ({"bytes": "5000"}, "bytes: expected a whole number"),
        ({"error_percent": 101.0}, "0 to 100"),
        ({"ratio": 201.0}, r"dense_bytes / bytes = 200\.0000, got 201"),
        ({"file": "other.fwt"}, "file must be 'small.fwt'"),
        ({"name": "other", "file": "other.fwt"}, "name must be that of the file, 'small'"),
        ({"shipped": False}, "not over 1,000,000"),
        ({"seeds": [SEEDS[0], SEEDS[0]]}, "same seed"),
        ({"seeds": [{**SEEDS[0], "error_percent": -1.0}]}, "0 to 100"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, changes, message):
    with pytest.raises(RecipeError, match=message) as caught:
        load_record(write(tmp_path, **changes))
    assert "small.json" in str(caught.value)


def test_a_large_file_need_not_be_there_and_the_comparison_is_no_result(tmp_path):
    write(tmp_path, bytes=2_000_000, ratio=0.5, shipped=False)
    (tmp_path / "compare.json").write_text("{}")
    (record,) = load_records(tmp_path)
    assert not record.shipped


def test_a_file_of_others_need_not_be_there_where_a_note_says_so(tmp_path):
    record = load_record(write(tmp_path, shipped=False, note="of its authors"))
    assert not record.shipped


def test_a_command_without_a_run_file_needs_a_config(tmp_path):
    record = load_record(write(tmp_path, command="featherweight convert a.net small.fwt"))
    with pytest.raises(RecipeError, match="give config"):
        _ = record.run_file
    record = load_record(write(tmp_path, command="featherweight convert a.net", config="recipes/x.yaml"))
    assert record.run_file == "recipes/x.yaml"


def test_ours_stand_first_and_published_rows_beside_them(tmp_path):
    record = load_record(write(tmp_path, seeds=SEEDS))
    row = PublishedRow("Others | 2015", "40", "H", "arXiv:1510.00149", error=1.58)
    published = Published((Group("LeNet-300-100", "LeNet300", "MNIST", (row,)), Group("None", "X", "Y")))
    lines = record_tables([record], published).splitlines()
    assert lines[0] == "### LeNet-300-100"
    assert lines[4].startswith("| **small** | **1.25 %** | **5,000** | **200×** | B |")
    assert lines[5] == "| Others \\| 2015 | 1.58 % | – | 40× | H | arXiv:1510.00149 |"
    assert len(lines) == 6  # a group without a result is left out
    table = seeds_table([record]).splitlines()
    assert table[2] == "| small | 0, 1 | 1.25 % | 1.500 % | 1.75 % | 5,000 | 5,100 | 5,200 |"


def test_a_network_that_nobody_published_has_its_row(tmp_path):
    record = load_record(write(tmp_path, model="Mine"))
    last = readme_table([record], Published(())).splitlines()[-1]
    assert last == (
        "| Mine, MNIST | `featherweight run recipes/small.yaml` | 1.50 % → 1.25 % | 5,000 | **200×** "
        "| 180× | 40.0× |"
    )


def test_only_what_is_between_the_marks_changes():
    text = put_between(f"before {BEGIN} old {END} after", "new", "README.md")
    assert text == f"before {BEGIN}\n\nnew\n\n{END} after"
    assert put_between(text, "new", "README.md") == text
    for wrong in ("nothing", f"{END} {BEGIN}", f"{BEGIN} {BEGIN} {END}"):
        with pytest.raises(RecipeError, match=r"README\.md"):
            put_between(wrong, "new", "README.md")
