"""Han's accounting of a layer's size, whatever coder its file uses (Deep Compression, tables 2 to 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featherweight.coding.fixed import FixedWidth
from featherweight.coding.gaps import measure_gaps
from featherweight.coding.huffman import Huffman
from featherweight.coding.layout import DENSE, choose_gap_bits, code_counts
from featherweight.coding.symbols import ceil_log2, histogram

if TYPE_CHECKING:
    from featherweight.coding.gaps import GapStatistics
    from featherweight.coding.symbols import Symbols

#: Bits of a codebook value in the paper's accounting.
_CODEBOOK_VALUE_BITS = 32


@dataclass(frozen=True)
class PaperSizes:
    """The paper's figures for one layer; bits are means over the stored entries where not said otherwise.

    P+Q codes indices and gaps in fixed widths, P+Q+H both with Huffman codes of the same entries. Code tables
    are left out, as in the paper. Totals include the codebook at 32 bits a value.

    Attributes:
        numel: elements of the layer.
        nonzero: indices other than 0.
        stored: entries with fillers, or all elements where that is smaller in fixed widths.
        gap_bits: r, 0 where all elements are stored: index bits (P+Q).
        weight_bits_pq: ``ceil(log2 k)``.
        weight_bits_pqh: mean bits of a Huffman-coded index.
        index_bits_pq: the same as ``gap_bits``.
        index_bits_pqh: mean bits of a Huffman-coded gap.
        total_bits_pq: bits of the layer.
        total_bits_pqh: bits of the layer.
        total_bits_p: bits of the layer after pruning alone: its values as they were, and gaps of fixed width.
    """

    numel: int
    nonzero: int
    stored: int
    gap_bits: int
    weight_bits_pq: int
    weight_bits_pqh: float
    index_bits_pq: int
    index_bits_pqh: float
    total_bits_pq: int
    total_bits_pqh: int
    total_bits_p: int


def paper_sizes(indices: Symbols, codebook_size: int, value_bits: int = 32) -> PaperSizes:
    """Count a layer as the paper does, from histograms alone.

    Args:
        indices: index array of any shape.
        codebook_size: k, values in the codebook.
        value_bits: of a weight before it shared its value with others.

    Raises:
        IndexError: if an index is not below ``codebook_size``.
    """
    counts = histogram(indices, codebook_size)
    statistics = measure_gaps(indices.reshape(-1))
    gap_bits = choose_gap_bits(FixedWidth(), counts, statistics)
    huffman = Huffman()
    if gap_bits == DENSE:
        stored, codes, gap_total = indices.size, counts, 0
    else:
        stored = statistics.stored(gap_bits)
        codes = code_counts(counts, statistics, gap_bits)
        gap_total = huffman.body_bits(statistics.gap_counts(gap_bits))
    code_total = huffman.body_bits(codes)
    codebook_bits = codebook_size * _CODEBOOK_VALUE_BITS
    weight_bits = ceil_log2(codebook_size)
    return PaperSizes(
        numel=indices.size,
        nonzero=statistics.nonzero,
        stored=stored,
        gap_bits=gap_bits,
        weight_bits_pq=weight_bits,
        weight_bits_pqh=code_total / max(stored, 1),
        index_bits_pq=gap_bits,
        index_bits_pqh=gap_total / max(stored, 1),
        total_bits_pq=stored * (weight_bits + gap_bits) + codebook_bits,
        total_bits_pqh=code_total + gap_total + codebook_bits,
        total_bits_p=_pruned_bits(statistics, indices.size, value_bits),
    )


def _pruned_bits(statistics: GapStatistics, numel: int, value_bits: int) -> int:
    """Bits of the values left, each with a gap of the width that takes fewest; dense where that is less."""
    sparse = (statistics.stored(width) * (value_bits + width) for width in statistics.widths())
    return min(numel * value_bits, *sparse)
