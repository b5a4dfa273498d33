import io

import numpy as np
import pytest
from rich.console import Console

from featherweight.analysis.sizes import measure_file
from featherweight.analysis.sparsity import measure_sparsity
from featherweight.analysis.tables import WIDTH, layer_table, nonzero_table
from featherweight.analysis.text import count, percent, printable, shape, times
from featherweight.fileformat import FileReader, write_file
from featherweight.tensors import QuantizedTensor, RawTensor


def render(table, width):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    return console.file.getvalue()


def sizes_of(tmp_path, tensors):
    path = tmp_path / "model.fwt"
    write_file(path, tensors)
    with FileReader(path) as reader:
        return measure_file(reader)


def layer(shape, seed=0):
    indices = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    return QuantizedTensor(indices, np.array([0, 1, 2, 3], np.float32))


def bias(size):
    values = np.random.default_rng(1).normal(size=size).astype(np.float32)
    return RawTensor("float32", (size,), np.frombuffer(values.tobytes(), np.uint8))


def test_layer_table_tells_layers_others_and_a_total(tmp_path):
    sizes = sizes_of(tmp_path, {"fc.weight": layer((64, 32)), "fc.bias": bias(64), "fc.scale": bias(64)})
    lines = render(layer_table(sizes), 80).splitlines()
    assert any(line.startswith("fc ") and "2048" in line for line in lines)
    assert any(line.startswith("2 vectors") and "100%" in line for line in lines)
    total = next(line for line in lines if line.startswith("total"))
    assert f"{sizes.file_bytes:,}" in total
    assert times(sizes.ratio_h) in lines[lines.index(total) + 1]
    assert max(map(len, lines)) <= 80


def test_names_keep_their_suffix_where_they_would_clash(tmp_path):
    text = render(layer_table(sizes_of(tmp_path, {"a": layer((4, 4)), "a.weight": layer((4, 4))})), 80)
    assert "a.weight" in text


def test_widest_numbers_still_fit_80_columns(tmp_path):
    name = "a.very.long.name.of.a.layer.that.nobody.would.give.weight"
    lines = render(layer_table(sizes_of(tmp_path, {name: layer((999, 1001))})), 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize("width", [WIDTH - 1, 40, 20, 5, 1])
def test_narrow_tables_do_not_fail(tmp_path, width):
    table = layer_table(sizes_of(tmp_path, {"fc.weight": layer((64, 32))}), brief=True)
    assert max(map(len, render(table, width).splitlines())) <= max(width, 1)


def test_brief_table_fits_40_columns(tmp_path):
    text = render(layer_table(sizes_of(tmp_path, {"fc.weight": layer((64, 32))}), brief=True), 40)
    assert "…" not in text
    assert "size" in text


def test_markup_and_control_characters_in_names_are_shown_not_obeyed(tmp_path):
    text = render(layer_table(sizes_of(tmp_path, {"[red]x\x1b[2J": layer((4, 4))})), 80)
    assert "[red]x\\x1b" in text
    assert "\x1b" not in text


def test_empty_model(tmp_path):
    assert "total" in render(layer_table(sizes_of(tmp_path, {})), 80)


def test_nonzero_table():
    text = render(nonzero_table(measure_sparsity({"fc1.weight": np.eye(4), "fc1.bias": np.ones(4)})), 80)
    row = next(line for line in text.splitlines() if "fc1.weight" in line)
    assert row.split() == ["fc1.weight", "4", "16", "25.00%", "12", "4×4"]
    assert "alive 8, pruned 12, total 20, compression rate 2.5× (60.00% pruned)" in text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (9_999, "9999"),
        (10_000, "10K"),
        (235_200, "235K"),
        (999_499, "999K"),
        (999_500, "1.0M"),
        (38_100_000, "38.1M"),
        (99_960_000, "100M"),
        (2_500_000_000, "2.5G"),
    ],
)
def test_count(number, text):
    assert count(number) == text


def test_ratios_percents_and_shapes():
    assert (times(48.66), times(487.2)) == ("48.7×", "487×")
    assert (percent(0.0205), percent(1.0), percent(0.08, 1)) == ("2.05%", "100%", "8.0%")
    assert (shape((300, 784)), shape(())) == ("300×784", "scalar")
    assert printable("naïve\n\x1b[0m") == "naïve\\n\\x1b[0m"
