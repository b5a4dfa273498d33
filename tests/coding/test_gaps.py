"""Relative indices against an oracle that follows the paper word by word."""

import numpy as np
import pytest
from both_ways import BOTH, only
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.coding.gaps import MAX_GAP_BITS, join_entries, measure_gaps, split_entries
from featherweight.errors import FormatError


def slow_entries(indices, gap_bits):
    gaps, codes, zeros = [], [], 0
    for index in indices:
        if index:
            gaps.append(zeros)
            codes.append(index)
            zeros = 0
        elif zeros == 2**gap_bits - 1:
            gaps.append(zeros)  # a filler takes this zero's place
            codes.append(0)
            zeros = 0
        else:
            zeros += 1
    while codes and codes[-1] == 0:
        gaps.pop()
        codes.pop()
    return gaps, codes


sparse_arrays = st.lists(st.one_of(st.just(0), st.just(0), st.just(0), st.integers(0, 9)), max_size=300).map(
    lambda items: np.array(items, np.uint8)
)


@settings(deadline=None)
@given(sparse_arrays, st.integers(1, MAX_GAP_BITS), st.booleans())
def test_entries_are_the_papers(indices, gap_bits, compiled):
    with only(compiled):
        check_entries(indices, gap_bits)


def join(gaps, codes, gap_bits, numel):
    out = np.zeros(numel, np.uint8)
    join_entries(gaps, codes, gap_bits, np.arange(256, dtype=np.uint8), out)
    return out


def check_entries(indices, gap_bits):
    statistics = measure_gaps(indices)
    gaps, codes = split_entries(indices, gap_bits, statistics.stored(gap_bits))
    assert (gaps.tolist(), codes.tolist()) == slow_entries(indices.tolist(), gap_bits)
    assert statistics.nonzero == np.count_nonzero(indices)
    assert statistics.gap_counts(gap_bits).tolist() == np.bincount(gaps, minlength=1 << gap_bits).tolist()
    assert join(gaps, codes, gap_bits, indices.size).tolist() == indices.tolist()


def test_the_papers_figure():
    """Figure 2 of the paper: spans 1 and 3, then a filler where the gap exceeds 8 (3 bits)."""
    indices = np.zeros(16, np.uint8)
    indices[[1, 4, 15]] = 34, 9, 17
    gaps, codes = split_entries(indices, 3, 4)
    assert gaps.tolist() == [1, 2, 7, 2]
    assert codes.tolist() == [34, 9, 0, 17]


def test_no_width_beyond_the_first_without_fillers_is_tried():
    indices = np.zeros(100, np.uint8)
    indices[[5, 50]] = 1
    assert measure_gaps(indices).widths() == range(1, 7)
    assert measure_gaps(np.zeros(10, np.uint8)).widths() == range(1, 2)
    far = np.zeros(10_000, np.uint8)
    far[-1] = 1
    assert measure_gaps(far).widths() == range(1, 13)


@pytest.mark.parametrize(
    ("gaps", "codes", "reason"),
    [
        ([3, 3], [1, 1], "past the end"),
        ([3, 3, 3], [1, 0, 1], "past the end"),
        ([1, 0], [0, 1], "does not fill a gap"),
        ([0, 3], [1, 0], "does not fill a gap"),
    ],
)
@pytest.mark.parametrize("compiled", BOTH)
def test_bad_entries(gaps, codes, reason, compiled):
    with only(compiled), pytest.raises(FormatError, match=reason):
        join(np.array(gaps, np.uint8), np.array(codes, np.uint8), 2, 7)


@settings(deadline=None, max_examples=50)
@given(sparse_arrays, st.integers(1, 4), st.integers(1, 9))
def test_blocks_of_entries_find_their_places(indices, gap_bits, block):
    statistics = measure_gaps(indices)
    gaps, codes = split_entries(indices, gap_bits, statistics.stored(gap_bits))
    with only(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr("featherweight.coding.gaps._BLOCK_SIZE", block)
        patch.setenv("NUMBA_NUM_THREADS", "3")
        assert join(gaps, codes, gap_bits, indices.size).tolist() == indices.tolist()
        if codes.size:
            last = int(np.flatnonzero(indices)[-1])
            with pytest.raises(FormatError, match="past the end"):
                join(gaps, codes, gap_bits, last)
