"""Length-limited codes against Huffman's own algorithm and against brute force."""

import heapq
import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.coding.package_merge import code_lengths


def cost(counts, lengths):
    return sum(int(c) * int(n) for c, n in zip(counts, lengths, strict=True))


def huffman_cost(counts):
    """Bits of an unlimited Huffman code: the sum of all merged weights."""
    heap = [c for c in counts if c]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


def brute_force_cost(counts, limit):
    """Fewest bits of any code that fulfils Kraft's inequality."""
    return min(
        cost(counts, lengths)
        for lengths in itertools.product(range(1, limit + 1), repeat=len(counts))
        if sum(Fraction(1, 2**n) for n in lengths) <= 1
    )


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=200).filter(lambda c: sum(x > 0 for x in c) > 1))
def test_loose_limit_is_huffman(counts):
    lengths = code_lengths(np.array(counts), 200)
    assert cost(counts, lengths) == huffman_cost(counts)
    assert ((lengths > 0) == (np.array(counts) > 0)).all()


@settings(deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=5), st.integers(3, 4))
def test_tight_limit_is_optimal(counts, limit):
    lengths = code_lengths(np.array(counts), limit)
    assert lengths.max() <= limit
    assert cost(counts, lengths) == brute_force_cost(counts, limit)


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**12), min_size=2, max_size=300), st.integers(0, 5))
def test_kraft_equality_holds_and_rarer_symbols_have_longer_codewords(counts, slack):
    limit = (len(counts) - 1).bit_length() + slack
    lengths = code_lengths(np.array(counts), limit)
    assert sum(Fraction(1, 2 ** int(n)) for n in lengths) == 1
    ordered = lengths[np.argsort(counts, kind="stable")]
    assert (np.diff(ordered.astype(int)) <= 0).all()


def test_fibonacci_counts_meet_the_limit():
    counts = [1, 1]
    while len(counts) < 40:
        counts.append(counts[-1] + counts[-2])
    assert code_lengths(np.array(counts), 100).max() == 39
    assert code_lengths(np.array(counts), 12).max() == 12


def test_none_and_one_symbol_take_no_bits():
    assert code_lengths(np.zeros(4, np.int64), 12).tolist() == [0, 0, 0, 0]
    assert code_lengths(np.array([0, 7, 0]), 12).tolist() == [0, 0, 0]


def test_limit_too_small_is_refused():
    with pytest.raises(ValueError, match="cannot tell 5 symbols apart"):
        code_lengths(np.ones(5, np.int64), 2)
