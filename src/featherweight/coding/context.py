"""``context``: adaptive binary arithmetic coding of index arrays with mixed contexts, for the smallest files.

The payload is::

    flags                       u8; bit 0: constant, bit 1: transposed, bit 2: magnitudes as digits; others 0
    constant    the index       varint; that is all
    otherwise   negative        varint: indices 1 to this stand for the levels below zero, in ascending order
                lag             varint, see below
                inner lag       varint
                first guess     u8, of the logit of a nonzero index
                block sizes     varints, bytes of every block but the last
                blocks          each coded alone

Index 0 is level 0, the others are levels in their order around it: 1 is the lowest, ``codebook size - 1`` the
highest. The array is a matrix, the first dimension its rows; a *lag* tells how far apart in a row those
elements lie that neighbour each other in some other dimension: the kernel size of a convolution, the width of
the images that a first layer looks at. :mod:`featherweight.coding.context_kernel` codes the levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.coding.context_block import code_block
from featherweight.coding.context_tables import (
    BUFFER_FULL,
    INVALID_LEVEL,
    LOGIT_LIMIT,
    PROBABILITY_BITS,
    SPAN_BITS,
    SQUASH,
)
from featherweight.coding.cursor import Cursor, encode_varint
from featherweight.coding.layout import StreamSizes
from featherweight.coding.symbols import ceil_log2, histogram, symbol_dtype
from featherweight.coding.threads import map_blocks
from featherweight.errors import FormatError, TensorError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.coding.symbols import Symbols

_CONSTANT, _TRANSPOSED, _TREE = 1, 2, 4

#: Blocks hold whole rows, about this many elements; they are coded side by side.
BLOCK_SIZE = 1 << 20

#: Wider matrices, and arrays of one dimension, are cut into rows of this many columns.
MAX_WIDTH = 1 << 16
FOLDED_WIDTH = 1 << 10

MAX_LAG = 1 << 12

#: Nonzero magnitudes larger than this on average are coded by their digits.
_LARGE_MEAN = 6

#: Elements that the choice of scan looks at, and those that lags are looked for in.
_SAMPLE = 1 << 17
_LAG_SAMPLE = 1 << 16
_MOST_LIKELY_LAG = 256
_LAGS_TRIED = 2


@dataclass(frozen=True)
class _Plan:
    """How an array is scanned and its levels are told; what the payload's head says."""

    width: int
    negative: int
    positive: int
    transposed: bool = False
    tree: bool = False
    lag: int = 1
    inner: int = 1
    guess: int = 128

    def density(self) -> int:
        """First guess of the probability of a nonzero level, 22 bits."""
        return int(SQUASH[(self.guess - 128) * LOGIT_LIMIT // 128 + LOGIT_LIMIT]) << (PROBABILITY_BITS - 16)

    def head(self) -> bytes:
        flags = self.transposed * _TRANSPOSED + self.tree * _TREE
        numbers = (self.negative, self.lag, self.inner)
        return bytes([flags]) + b"".join(map(encode_varint, numbers)) + bytes([self.guess])

    def block_elements(self) -> int:
        return max(1, BLOCK_SIZE // self.width) * self.width


class ContextCoder:
    """A :class:`~featherweight.coding.layout.Coder`."""

    name = "context"
    id = 19

    def encode(self, indices: Symbols, codebook_size: int) -> bytes:
        """Code an index array of any shape."""
        if indices.size == 0:
            return b""
        counts = _counts(indices, codebook_size)
        present = np.flatnonzero(counts)
        if present.size == 1:
            return bytes([_CONSTANT]) + encode_varint(int(present[0]))
        plan = _choose_scan(indices, _plan(indices.shape, counts))
        return plan.head() + _encode_blocks(indices, plan)

    def decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], codebook_size: int) -> Symbols:
        """Read it back; see :meth:`Coder.decode`."""
        numel = math.prod(shape)
        dtype = symbol_dtype(codebook_size)
        cursor = Cursor(payload)
        if numel == 0:
            cursor.finish()
            return np.zeros(shape, dtype)
        flags = cursor.byte()
        if flags == _CONSTANT:
            value = cursor.varint()
            cursor.finish()
            if value >= codebook_size:
                raise FormatError(f"holds index {value} of a codebook of {codebook_size}")
            return np.full(shape, value, dtype)
        plan = _read_plan(cursor, flags, shape, codebook_size)
        # A block may have no bytes at all, but for each one but the last its size takes a byte.
        if (numel - 1) // plan.block_elements() > cursor.remaining:
            raise FormatError(f"is too short for {numel} elements")
        return _decode_blocks(cursor, shape, dtype, plan)

    def describe(self, payload: NDArray[np.uint8], shape: tuple[int, ...], codebook_size: int) -> StreamSizes:
        """What the payload spends its bits on: positions are part of the codes."""
        indices = self.decode(payload, shape, codebook_size)
        return StreamSizes(
            layout="dense",
            stored=indices.size,
            nonzero=int(np.count_nonzero(indices)),
            code_bits_fixed=ceil_log2(codebook_size),
            gap_bits_fixed=0,
            code_bits_mean=8 * payload.size / max(indices.size, 1),
            gap_bits_mean=0.0,
        )


def _counts(indices: Symbols, codebook_size: int) -> NDArray[np.int64]:
    if int(indices.max()) >= codebook_size:
        raise TensorError(f"index {int(indices.max())} is outside a codebook of {codebook_size} values")
    return histogram(np.ascontiguousarray(indices, symbol_dtype(codebook_size)), codebook_size)


def _natural_width(shape: tuple[int, ...], transposed: bool) -> int:
    numel = math.prod(shape)
    if len(shape) < 2:
        return min(numel, FOLDED_WIDTH)
    width = shape[0] if transposed else numel // shape[0]
    return width if width <= MAX_WIDTH else FOLDED_WIDTH


def _plan(shape: tuple[int, ...], counts: NDArray[np.int64]) -> _Plan:
    """The plan that follows from shape and histogram alone, row by row."""
    codebook_size = counts.size
    below = np.concatenate([[0], np.cumsum(counts[1:])])  # nonzero elements if so many levels are negative
    middle = (codebook_size - 1) / 2
    # The median has the least mean magnitude; of equal splits the one in the middle.
    order = np.lexsort((np.abs(np.arange(below.size) - middle), np.abs(2 * below - below[-1])))
    negative = int(order[0])
    levels = np.arange(codebook_size - 1)
    magnitudes = np.where(levels < negative, negative - levels, levels - negative + 1)
    mean = float((magnitudes * counts[1:]).sum()) / float(below[-1])
    odds = (below[-1] + 0.5) / (counts[0] + 0.5)
    guess = round(128 * min(max(math.log(odds) / 11, -0.99), 0.99)) + 128
    plan = _Plan(
        width=_natural_width(shape, transposed=False),
        negative=negative,
        positive=codebook_size - 1 - negative,
        tree=mean > _LARGE_MEAN,
        guess=guess,
    )
    if len(shape) > 2:
        kernel = math.prod(shape[2:])
        lag = kernel if kernel <= min(MAX_LAG, plan.width) else 1
        plan = replace(plan, lag=lag, inner=min(shape[-1], lag))
    return plan


def _choose_scan(indices: Symbols, plan: _Plan) -> _Plan:
    """Try other lags and the transposed matrix on the first rows, and keep what takes the fewest bytes."""
    if indices.ndim != 2 or min(indices.shape) == 1 or max(indices.shape) > MAX_WIDTH:
        return plan
    sample = indices[: max(2, _SAMPLE // plan.width)]
    candidates = [plan, *(replace(plan, lag=lag) for lag in _likely_lags(sample.reshape(-1), plan))]
    candidates.append(replace(plan, width=indices.shape[0], transposed=True))
    sizes = map_blocks(lambda candidate: _sample_size(sample, candidate), candidates)
    return candidates[int(np.argmin(sizes))]


def _sample_size(sample: Symbols, plan: _Plan) -> int:
    plan = replace(plan, width=_natural_width(sample.shape, plan.transposed))
    return len(_encode_block(_levels(_scan(sample, plan), plan), plan))


def _likely_lags(flat: NDArray[Any], plan: _Plan) -> list[int]:
    """Distances at which large levels of a row go together more than at those around."""
    rows = max(1, _LAG_SAMPLE // plan.width)
    sample = np.abs(_levels(flat[: rows * plan.width], plan)).reshape(-1, plan.width)
    large = sample * sample.size > int(sample.sum())
    farthest = min(_MOST_LIKELY_LAG, plan.width // 2)
    pairs = [np.count_nonzero(large[:, lag:] & large[:, :-lag]) for lag in range(1, farthest + 1)]
    # Fewer pairs are far apart than near; both in integers, so that every machine chooses the same.
    score = [int(count) * plan.width // (plan.width - 1 - at) for at, count in enumerate(pairs)]
    excess = {at: 2 * score[at] - score[at - 2] - score[at + 2] for at in range(2, len(score) - 2)}
    return [at + 1 for at in sorted(excess, key=lambda at: -excess[at])[:_LAGS_TRIED]]


def _scan(indices: NDArray[Any], plan: _Plan) -> NDArray[Any]:
    """The elements in the order of the scan, ``(numel,)``; a copy only where the matrix is transposed."""
    if plan.transposed:
        return indices.reshape(indices.shape[0], -1).T.reshape(-1)
    return np.ascontiguousarray(indices).reshape(-1)


def _rows(matrix: NDArray[Any], block: slice, plan: _Plan) -> NDArray[Any]:
    """A view of those elements of ``matrix`` that are a block of the scan."""
    if plan.transposed:
        return matrix.reshape(matrix.shape[0], -1)[:, block.start // plan.width : block.stop // plan.width].T
    return matrix.reshape(-1)[block]


def _levels(flat: NDArray[Any], plan: _Plan) -> NDArray[np.int32]:
    table = np.arange(plan.negative + plan.positive + 1, dtype=np.int32) - plan.negative
    table[1 : plan.negative + 1] -= 1
    table[0] = 0
    return table.take(flat)


def _indices(levels: NDArray[np.int32], plan: _Plan, dtype: type) -> Symbols:
    """The inverse of :func:`_levels`."""
    table: NDArray[Any] = np.arange(plan.negative + plan.positive + 1).astype(dtype)
    table[: plan.negative] += 1
    table[plan.negative] = 0
    return table.take(levels + plan.negative)


def _blocks(numel: int, plan: _Plan) -> list[slice]:
    size = plan.block_elements()
    return [slice(start, min(start + size, numel)) for start in range(0, numel, size)]


def _encode_blocks(indices: Symbols, plan: _Plan) -> bytes:
    indices = np.ascontiguousarray(indices)

    def encode(block: slice) -> bytes:
        return _encode_block(_levels(_rows(indices, block, plan).reshape(-1), plan), plan)

    blocks = map_blocks(encode, _blocks(indices.size, plan))
    return b"".join([*(encode_varint(len(block)) for block in blocks[:-1]), *blocks])


def _encode_block(levels: NDArray[np.int32], plan: _Plan) -> bytes:
    room = 1024 + levels.size // 2
    while True:
        stream = np.zeros(room, np.uint8)
        at, low, span = _run(levels, stream, plan, decoding=False)
        if at != BUFFER_FULL:
            return _finish(stream[:at].tobytes(), low, span)
        room *= 4


def _finish(written: bytes, low: int, span: int) -> bytes:
    """End a block with the shortest bytes that, followed by zeros, lie in the last interval."""
    top = low + span - 1
    last = SPAN_BITS // 8
    zeros = next(zeros for zeros in range(last, -1, -1) if top >> 8 * zeros << 8 * zeros >= low)
    value = top >> 8 * zeros << 8 * zeros
    if value >> SPAN_BITS:  # carry
        whole = int.from_bytes(written, "big") + 1
        written, value = whole.to_bytes(len(written), "big"), value - (1 << SPAN_BITS)
    return (written + value.to_bytes(last, "big")).rstrip(b"\0")


def _decode_blocks(cursor: Cursor, shape: tuple[int, ...], dtype: type, plan: _Plan) -> Symbols:
    indices: NDArray[Any] = np.empty(shape, dtype)
    blocks = _blocks(indices.size, plan)
    lengths = [cursor.varint() for _ in blocks[1:]]
    streams = [cursor.take(length) for length in lengths]
    streams.append(cursor.take(cursor.remaining))

    def decode(job: tuple[slice, NDArray[np.uint8]]) -> None:
        block, stream = job
        rows = _rows(indices, block, plan)
        levels = np.zeros(rows.size, np.int32)
        _decode_block(levels, stream, plan)
        rows[...] = _indices(levels, plan, dtype).reshape(rows.shape)

    map_blocks(decode, zip(blocks, streams, strict=True))
    return indices


def _decode_block(levels: NDArray[np.int32], stream: NDArray[np.uint8], plan: _Plan) -> None:
    if stream[: SPAN_BITS // 8].tobytes() == b"\xff" * (SPAN_BITS // 8):
        raise FormatError("has a block that begins outside of the range coder's interval")
    stream = np.ascontiguousarray(stream)
    at, offset, span = _run(levels, stream, plan, decoding=True)
    if at == INVALID_LEVEL:
        raise FormatError("holds a level that the codebook does not have")
    _check_end(stream, at, offset, span)


def _check_end(stream: NDArray[np.uint8], size: int, offset: int, span: int) -> None:
    """Check that a block ends as :func:`_finish` ends it: nothing follows, nothing is left out."""
    zeros = size - stream.size
    if zeros < 0:
        raise FormatError(f"goes on after its end, {-zeros} bytes are left")
    exact = span - 1 - offset < 1 << 8 * zeros
    shortest = stream.size == 0 or int(stream[-1]) << 8 * zeros > offset
    if not (0 <= offset < span and exact and shortest):
        raise FormatError("has a block that does not end where it should")


def _run(
    levels: NDArray[np.int32], stream: NDArray[np.uint8], plan: _Plan, *, decoding: bool
) -> tuple[int, int, int]:
    return code_block(
        levels,
        stream,
        width=plan.width,
        lag=plan.lag,
        inner=plan.inner,
        below=plan.negative,
        above=plan.positive,
        by_digits=plan.tree,
        density=plan.density(),
        decoding=decoding,
    )


def _read_plan(cursor: Cursor, flags: int, shape: tuple[int, ...], codebook_size: int) -> _Plan:
    if flags & ~(_TRANSPOSED | _TREE):
        raise FormatError(
            f"has flags {flags}, which this version does not know; upgrade Featherweight to read it"
        )
    negative, lag, inner, guess = cursor.varint(), cursor.varint(), cursor.varint(), cursor.byte()
    transposed = bool(flags & _TRANSPOSED)
    width = _natural_width(shape, transposed)
    if transposed and (len(shape) < 2 or width != shape[0]):
        raise FormatError(f"says that an array of shape {shape} is transposed")
    if codebook_size < 2 or negative >= codebook_size:
        raise FormatError(f"has {negative} negative levels in a codebook of {codebook_size}")
    if not (1 <= inner <= lag <= min(width, MAX_LAG)):
        raise FormatError(f"has lags {lag} and {inner} in rows of {width}")
    if guess == 0:
        raise FormatError("begins with a probability of 0")
    return _Plan(
        width, negative, codebook_size - 1 - negative, transposed, bool(flags & _TREE), lag, inner, guess
    )
