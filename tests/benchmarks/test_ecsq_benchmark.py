"""Which files the comparison of entropy-constrained quantization with k-means sets against each other."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def ecsq(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ecsq

    return ecsq


def test_only_files_that_no_smaller_one_is_as_good_as_are_on_the_front(ecsq):
    files = [
        ecsq.Measured("k-means", bits, "linear", size, error, 0.0)
        for bits, size, error in ((5, 500, 2.0), (4, 400, 3.0), (6, 400, 2.5), (3, 300, 2.5), (2, 200, 9.0))
    ]
    assert [(m.bytes, m.bits) for m in ecsq.front(files)] == [(200, 2), (300, 3), (500, 5)]


def test_each_kmeans_file_meets_the_smallest_that_is_at_least_as_good(ecsq):
    kmeans = [
        ecsq.Measured("k-means", 4, "linear", 400, 3.0, 0.0),
        ecsq.Measured("k-means", 5, "linear", 500, 2.0, 0.0),
        ecsq.Measured("k-means", 8, "linear", 800, 1.0, 0.0),  # which no other comes up to
    ]
    others = [
        ecsq.Measured("ecsq", 4, "0.1", 300, 3.01, 0.0),
        ecsq.Measured("ecsq", 4, "0.05", 350, 3.0, 0.0),
        ecsq.Measured("ecsq", 4, "0.02", 450, 1.9, 0.0),
        ecsq.Measured("ecsq", 5, "0.02", 460, 1.5, 0.0),
    ]
    found = ecsq.pairs([*others, *kmeans])
    assert [(p.kmeans.bytes, p.ecsq.bytes) for p in found] == [(400, 350), (500, 450)]
    assert [p.saved_percent for p in found] == pytest.approx([12.5, 10.0])
