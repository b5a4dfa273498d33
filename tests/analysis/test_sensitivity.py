from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
from rich.console import Console

from featherweight.analysis.sensitivity import Curve, Results, furthest_free, summary_table
from featherweight.analysis.sweep import NETWORK, Row
from featherweight.errors import FormatError


def row(layer, sparsity, accuracy, *, seed=0, epochs=0, bits=None):
    method = ("magnitude", "element") if bits is None else (None, None)
    quantizer = None if bits is None else "kmeans:linear"
    return Row(layer, sparsity, bits, *method, 1, quantizer, epochs, seed, accuracy, 0.1, sparsity or 0.0)


@pytest.fixture
def results():
    rows = [
        *(row("fc1.weight", s, a) for s, a in ((0.9, 98.0), (0.5, 99.0), (0.95, 90.0))),
        *(row("fc1.weight", s, a, seed=1) for s, a in ((0.9, 99.0), (0.5, 99.0), (0.95, 80.0))),
        row(NETWORK, 0.5, 50.0, epochs=1),
        row("fc1.weight", None, 60.0, bits=1),
        row("fc1.weight", None, 99.0, bits=2),
        row("fc1.weight", None, 99.2, bits=3),
    ]
    return Results("r", "LeNet300", "digits", "validation", 99.0, 0.05, {"seeds": [0, 1]}, tuple(rows))


def test_a_curve_is_the_mean_over_seeds_with_its_range(results):
    curve, network = results.pruning()
    assert curve == Curve(
        "fc1.weight",
        "magnitude",
        1,
        0,
        (0.5, 0.9, 0.95),
        (99.0, 98.5, 85.0),
        (99.0, 98.0, 80.0),
        (99.0, 99.0, 90.0),
    )
    assert (network.layer, network.epochs, network.accuracy) == (NETWORK, 1, (50.0,))


def test_bits_fall_along_a_curve(results):
    [curve] = results.quantization()
    assert (curve.x, curve.accuracy, curve.method) == ((3.0, 2.0, 1.0), (99.2, 99.0, 60.0), "kmeans:linear")


def test_furthest_free_stops_at_the_first_that_loses_more(results):
    curve = results.pruning()[0]
    assert furthest_free(curve, 99.0) == 0.9
    assert furthest_free(curve, 99.0, points=0.4) == 0.5
    assert furthest_free(curve, 99.0, points=20) == 0.95
    assert furthest_free(curve, 99.9) is None
    dips = replace(curve, accuracy=(99.0, 90.0, 99.0))
    assert furthest_free(dips, 99.0) == 0.5
    assert furthest_free(results.quantization()[0], 99.0) == 2


def test_csv_and_json_hold_every_row_and_read_back(results, tmp_path):
    results.write(tmp_path)
    with (tmp_path / "sensitivity.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(line["accuracy_percent"]) for line in table] == [r.accuracy_percent for r in results.rows]
    assert table[0]["layer"] == "fc1.weight"
    assert table[-1]["bits"] == "3"
    assert table[-1]["sparsity"] == ""
    data = json.loads((tmp_path / "sensitivity.json").read_text())
    assert data["dense"] == {"accuracy_percent": 99.0, "loss": 0.05}
    assert Results.read(tmp_path / "sensitivity.json") == results


@pytest.mark.parametrize("text", ["nonsense", "{}", '{"name": 1}'])
def test_other_json_is_refused(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=r"other.json: holds no results"):
        Results.read(path)


def test_the_summary_says_how_far_each_layer_can_go(results):
    console = Console(width=100)
    with console.capture() as shown:
        console.print(summary_table(results))
    lines = [line.split() for line in shown.get().splitlines()]
    assert ["fc1", "magnitude", "90", "%"] in lines
    assert ["whole", "network", "magnitude", "–"] in lines
    assert ["fc1", "kmeans:linear", "2", "bits"] in lines
