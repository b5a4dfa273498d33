"""Optimal prefix codes of limited length: the package-merge algorithm.

L. L. Larmore and D. S. Hirschberg, "A fast algorithm for optimal length-limited Huffman codes", JACM 37
(1990).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featherweight.coding.symbols import ceil_log2

if TYPE_CHECKING:
    from numpy.typing import NDArray


def code_lengths(counts: NDArray[np.int64], limit: int) -> NDArray[np.uint8]:
    """Codeword lengths that code an array with this histogram in the fewest bits.

    A symbol that does not occur gets length 0, and so does the only one of an array of one symbol. All others
    fulfil Kraft's equality. Ties are broken by symbol, so the same histogram gives the same code everywhere.

    Args:
        counts: occurrences of every symbol, ``(alphabet,)``.
        limit: the longest codeword allowed, in bits.

    Returns:
        Lengths in bits, ``(alphabet,)``.

    Raises:
        ValueError: if ``limit`` bits cannot tell the symbols apart.
    """
    lengths = np.zeros(counts.size, np.uint8)
    present = np.flatnonzero(counts)
    if present.size < 2:
        return lengths
    if limit < ceil_log2(present.size):
        raise ValueError(f"codewords of at most {limit} bits cannot tell {present.size} symbols apart")
    order = present[np.argsort(counts[present], kind="stable")]
    lengths[order] = _lengths_of_sorted(counts[order], limit)
    return lengths


def _lengths_of_sorted(weights: NDArray[np.int64], limit: int) -> NDArray[np.uint8]:
    """Lengths for at least two weights in ascending order.

    Every level offers each symbol as a coin, cheapest first, merged with the pairs ("packages") made of the
    level below. The 2n - 2 cheapest items of the top level are the code: a symbol's length is the number of
    levels at which its coin is among those taken.
    """
    row = weights
    coins_by_level = [np.ones(weights.size, bool)]
    for _ in range(limit - 1):
        packages = row[: row.size // 2 * 2].reshape(-1, 2).sum(axis=1)
        items = np.concatenate([weights, packages])
        rank = np.argsort(items, kind="stable")
        row = items[rank]
        coins_by_level.append(rank < weights.size)
    lengths = np.zeros(weights.size, np.uint8)
    take = 2 * weights.size - 2
    for coins in reversed(coins_by_level):
        taken = int(np.count_nonzero(coins[:take]))
        lengths[:taken] += 1
        take = 2 * (take - taken)
    return lengths
