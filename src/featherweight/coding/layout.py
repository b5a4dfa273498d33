"""Coders of whole index arrays, dense or sparse, made from a code for symbols.

The payload of such a coder is::

    gap width r                   u8; 0: dense, 1 to 12: sparse
    dense     the indices         numel symbols of an alphabet of codebook size
    sparse    stored entries      varint
              gaps                that many symbols of an alphabet of 2**r
              codes               that many symbols of an alphabet of codebook size

See :mod:`featherweight.coding.gaps` for what an entry is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from featherweight.coding.cursor import Cursor, encode_varint
from featherweight.coding.gaps import (
    MAX_GAP_BITS,
    GapStatistics,
    join_entries,
    measure_gaps,
    split_entries,
)
from featherweight.coding.symbols import ceil_log2, entropy_bits, histogram, symbol_dtype
from featherweight.coding.values import as_bits, filled, take_values
from featherweight.errors import FormatError, TensorError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.coding.symbols import SymbolCoder, Symbols

#: The gap width that stands for the dense layout.
DENSE = 0

#: From this size on, a run of so many indices out of every so many tells whether gaps are worth measuring.
_SAMPLED_FROM = 1 << 22
_SAMPLE_RUN, _SAMPLE_STRIDE = 1 << 12, 1 << 16


@dataclass(frozen=True)
class StreamSizes:
    """What a payload spends on what, for the paper's tables.

    Attributes:
        layout: how the array is laid out.
        stored: entries with fillers if sparse, elements if dense.
        nonzero: indices other than 0.
        code_bits_fixed: bits of an index of fixed width, ``ceil(log2 codebook size)``.
        gap_bits_fixed: r, bits of a gap of fixed width; 0 if dense.
        code_bits_mean: bits that the payload's coder takes an entry for its code, its tables left out.
        gap_bits_mean: the same for its gap.
    """

    layout: Literal["dense", "sparse"]
    stored: int
    nonzero: int
    code_bits_fixed: int
    gap_bits_fixed: int
    code_bits_mean: float
    gap_bits_mean: float


class Coder(Protocol):
    """Codes index arrays, ``uint8`` or ``uint16``, each index below ``codebook_size``."""

    @property
    def name(self) -> str:
        """What recipes call it."""
        ...

    @property
    def id(self) -> int:
        """What files call it: 16 to 254."""
        ...

    def encode(self, indices: Symbols, codebook_size: int) -> bytes:
        """Code an index array of any shape; raises :class:`TensorError` if an index is too large."""
        ...

    def decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], codebook_size: int) -> Symbols:
        """Read it back: ``uint8`` if ``codebook_size`` is at most 256, else ``uint16``.

        Raises:
            FormatError: if the payload is anything but an array of this shape.
        """
        ...

    def describe(self, payload: NDArray[np.uint8], shape: tuple[int, ...], codebook_size: int) -> StreamSizes:
        """What the payload spends its bits on; raises as :meth:`decode` does."""
        ...


@dataclass(frozen=True)
class LayoutCoder:
    """A :class:`Coder` that codes indices, or gaps and codes, with one kind of static code.

    Attributes:
        name: what recipes call it.
        id: what files call it.
        symbols: the code for both streams.
        sparse_slack: how much larger than the dense layout a sparse one may be to be taken, a fraction, if a
            quarter of the indices or less is nonzero; it decodes in less time, as zeros cost none. If more
            are, it takes longer, and must be smaller by half of this.
    """

    name: str
    id: int
    symbols: SymbolCoder
    sparse_slack: float = 0.0

    def encode(self, indices: Symbols, codebook_size: int) -> bytes:
        """Code an index array in whichever layout takes the fewest bits."""
        if indices.size and int(indices.max()) >= codebook_size:
            raise TensorError(f"index {int(indices.max())} is outside a codebook of {codebook_size} values")
        flat = np.ascontiguousarray(indices, symbol_dtype(codebook_size)).reshape(-1)
        counts = histogram(flat, codebook_size)
        if self._is_dense_for_sure(flat, counts):
            return bytes([DENSE]) + self.symbols.encode(flat, counts)
        statistics = measure_gaps(flat)
        gap_bits = choose_gap_bits(self.symbols, counts, statistics, self.sparse_slack)
        if gap_bits == DENSE:
            return bytes([DENSE]) + self.symbols.encode(flat, counts)
        stored = statistics.stored(gap_bits)
        gaps, codes = split_entries(flat, gap_bits, stored)
        gap_stream = self.symbols.encode(gaps, statistics.gap_counts(gap_bits))
        code_stream = self.symbols.encode(codes, code_counts(counts, statistics, gap_bits))
        return bytes([gap_bits]) + encode_varint(stored) + gap_stream + code_stream

    def _is_dense_for_sure(self, flat: Symbols, counts: NDArray[np.int64]) -> bool:
        """Whether a sample tells that sparse would not save enough: to measure all gaps takes a while."""
        if not self.sparse_slack or flat.size < _SAMPLED_FROM or 4 * counts[0] >= 3 * flat.size:
            return False
        parts = flat[: flat.size // _SAMPLE_STRIDE * _SAMPLE_STRIDE].reshape(-1, _SAMPLE_STRIDE)
        sample = parts[:, :_SAMPLE_RUN].reshape(-1)
        sampled = histogram(sample, counts.size)
        # Half of what sparse has to save in the end, as a sample is only like the whole.
        slack = self.sparse_slack / 2
        return choose_gap_bits(self.symbols, sampled, measure_gaps(sample), slack) == DENSE

    def decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], codebook_size: int) -> Symbols:
        """Read an index array back; see :meth:`Coder.decode`."""
        themselves = np.arange(codebook_size, dtype=symbol_dtype(codebook_size))
        return self._decode(payload, shape, themselves)

    def decode_values(
        self, payload: NDArray[np.uint8], shape: tuple[int, ...], codebook: NDArray[Any]
    ) -> NDArray[Any]:
        """Read ``codebook[indices]`` back; a sparse layout spares the detour over the indices."""
        return self._decode(payload, shape, codebook)

    def _decode(
        self, payload: NDArray[np.uint8], shape: tuple[int, ...], values: NDArray[Any]
    ) -> NDArray[Any]:
        gap_bits, gaps, codes = self._decode_entries(payload, math.prod(shape), values.size)
        if gap_bits == DENSE:
            out = codes if values.dtype == codes.dtype else take_values(codes, values)
        else:
            out = filled(math.prod(shape), values[:1])
            join_entries(gaps, codes, gap_bits, as_bits(values), as_bits(out))
        return out.reshape(shape)

    def describe(self, payload: NDArray[np.uint8], shape: tuple[int, ...], codebook_size: int) -> StreamSizes:
        """What the payload spends its bits on."""
        gap_bits, gaps, codes = self._decode_entries(payload, math.prod(shape), codebook_size)
        entries = max(codes.size, 1)
        return StreamSizes(
            layout="dense" if gap_bits == DENSE else "sparse",
            stored=codes.size,
            nonzero=int(np.count_nonzero(codes)),
            code_bits_fixed=ceil_log2(codebook_size),
            gap_bits_fixed=gap_bits,
            code_bits_mean=self.symbols.body_bits(histogram(codes, codebook_size)) / entries,
            gap_bits_mean=self.symbols.body_bits(histogram(gaps, 1 << gap_bits)) / entries,
        )

    def _decode_entries(
        self, payload: NDArray[np.uint8], numel: int, codebook_size: int
    ) -> tuple[int, Symbols, Symbols]:
        """Gap width, gaps (none if dense) and codes."""
        if numel and not codebook_size:
            raise FormatError("has elements but an empty codebook")
        cursor = Cursor(payload)
        gap_bits = cursor.byte()
        if gap_bits > MAX_GAP_BITS:
            raise FormatError(
                f"has layout {gap_bits}, which this version does not know; upgrade Featherweight to read it"
            )
        stored, gaps = numel, np.zeros(0, np.uint8)
        if gap_bits != DENSE:
            stored = cursor.varint()
            if stored > numel:
                raise FormatError(f"has {stored} entries for {numel} elements")
            gaps = self.symbols.decode(cursor, stored, 1 << gap_bits)
        codes = self.symbols.decode(cursor, stored, codebook_size)
        cursor.finish()
        return gap_bits, gaps, codes


def choose_gap_bits(
    symbols: SymbolCoder, counts: NDArray[np.int64], statistics: GapStatistics, sparse_slack: float = 0.0
) -> int:
    """The gap width r with which a code takes the fewest bits; 0 where dense takes no more.

    Args:
        symbols: the code for both streams.
        counts: histogram of the indices, ``(codebook size,)``.
        statistics: of the same indices.
        sparse_slack: the fraction by which dense is to be smaller, if a quarter of the indices or less is
            nonzero; half of it is the fraction by which sparse is to be smaller, if more are.
    """
    if counts.size == 0 or counts[0] == 0:
        return DENSE
    handicap = 1 + (sparse_slack if 4 * statistics.nonzero <= counts.sum() else -sparse_slack / 2)
    bounds = {DENSE: entropy_bits(counts) * handicap}
    for gap_bits in statistics.widths():
        codes = code_counts(counts, statistics, gap_bits)
        bounds[gap_bits] = entropy_bits(codes) + entropy_bits(statistics.gap_counts(gap_bits))
    best, fewest = DENSE, math.inf
    # Entropy bounds every static code from below, so most widths need no code built to be ruled out.
    for gap_bits, bound in sorted(bounds.items(), key=lambda item: (item[1], item[0])):
        if bound >= fewest:
            break
        bits = _total_bits(symbols, counts, statistics, gap_bits) * (handicap if gap_bits == DENSE else 1)
        if bits < fewest:
            best, fewest = gap_bits, bits
    return best


def _total_bits(
    symbols: SymbolCoder, counts: NDArray[np.int64], statistics: GapStatistics, gap_bits: int
) -> int:
    if gap_bits == DENSE:
        return symbols.header_bits(counts) + symbols.body_bits(counts)
    size_bits = 8 * len(encode_varint(statistics.stored(gap_bits)))
    streams = (code_counts(counts, statistics, gap_bits), statistics.gap_counts(gap_bits))
    return size_bits + sum(symbols.header_bits(stream) + symbols.body_bits(stream) for stream in streams)


def code_counts(counts: NDArray[np.int64], statistics: GapStatistics, gap_bits: int) -> NDArray[np.int64]:
    """Histogram of the codes of all entries: zeros give way to fillers."""
    codes = counts.copy()
    codes[0] = statistics.fillers[gap_bits]
    return codes
