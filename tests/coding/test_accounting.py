import numpy as np

from featherweight.coding import paper_sizes


def test_counts_by_hand():
    indices = np.zeros((4, 8), np.uint8)
    indices.flat[[0, 1, 2, 31]] = 1, 1, 2, 3
    sizes = paper_sizes(indices, 4)
    # Gaps 0, 0, 0, 28: r = 1 takes 4 + 14 fillers, 2 takes 11, 3 takes 7 entries of 5 bits, 4 takes 5 of 6.
    assert (sizes.numel, sizes.nonzero) == (32, 4)
    assert (sizes.gap_bits, sizes.stored) == (5, 4)
    assert sizes.total_bits_pq == 4 * (2 + 5) + 4 * 32
    # Codes 1, 1, 2, 3 take 1 + 1 + 2 + 2 bits, gaps 0, 0, 0, 28 one bit each.
    assert sizes.weight_bits_pqh == 6 / 4
    assert sizes.index_bits_pqh == 1
    assert sizes.total_bits_pqh == 6 + 4 + 4 * 32
    # Values of 32 bits make fillers dear: 4 entries with gaps of 5 bits; those of 16 bits likewise.
    assert sizes.total_bits_p == 4 * (32 + 5)
    assert paper_sizes(indices, 4, value_bits=16).total_bits_p == 4 * (16 + 5)


def test_dense_layer_stores_every_element():
    indices = np.arange(64, dtype=np.uint8) % 4
    sizes = paper_sizes(indices + 1, 5)
    assert (sizes.stored, sizes.gap_bits, sizes.weight_bits_pq) == (64, 0, 3)
    assert sizes.total_bits_pq == 64 * 3 + 5 * 32
    assert sizes.total_bits_pqh == 64 * 2 + 5 * 32
    assert sizes.total_bits_p == 64 * 32


def test_empty_and_all_zero():
    assert paper_sizes(np.zeros((0, 3), np.uint8), 1).total_bits_pqh == 32
    assert paper_sizes(np.zeros(100, np.uint8), 16).total_bits_pq == 16 * 32
    assert paper_sizes(np.zeros((0, 3), np.uint8), 1).total_bits_p == 0
