"""Codebooks that are not stored plainly, in plain Python from docs/format.md alone."""

import struct

from plain_range import RangeDecoder

MANTISSA = {"float64": 52, "float32": 23, "float16": 10}
EXPONENT = {"float64": 11, "float32": 8, "float16": 5}
LETTERS = {"float64": "d", "float32": "f", "float16": "e"}


class Grid:
    """Numbers of the grid, without 0 if that is left out, as ranks: the first above zero has rank 1."""

    def __init__(self, size, without_zero):
        self.size, self.without_zero = size, without_zero

    def number(self, rank):
        return rank - 1 if self.without_zero and rank <= 0 else rank

    def rank(self, number):
        return number + 1 if self.without_zero and number <= 0 else number

    def value(self, rank):
        number = self.number(rank)
        return self.size(abs(number)) * (1 if number > 0 else -1)

    def at_least(self, value, first, last):
        """The first rank from ``first`` to ``last`` whose value is, or the one after them."""
        low, high = first, last + 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.value(middle) >= value else (middle + 1, high)
        return low


def float_size(mantissa, dropped):
    def size(number):
        bits = number * 2**dropped
        field, fraction = divmod(bits, 2**mantissa)
        return fraction if field == 0 else (fraction + 2**mantissa) * 2 ** (field - 1)

    return size


def near(coder, grid, shares, x, u, v, f, last):
    assert f <= last
    if last - f < 16:
        return f + coder.number(last - f + 1)
    split = grid.at_least(x, f, last)
    up = coder.number(2) if f < split <= last else split == f
    c = coder.share(shares)
    shares[c] += 1
    r = v - x if up else x - u
    q, far = (0 if c == 15 else r // 2 ** (c + 1)), r // 2**c
    low, high = (x + q, x + far) if up else (x - far, x - q)
    low, high = grid.at_least(low, f, last), grid.at_least(high, f, last)
    assert low < high
    return low + coder.number(high - low)


def on_grid(source, count, grid, greatest):
    assert count <= 4096
    coder = RangeDecoder(source.text())
    ranks = [0] * count
    if count:
        shares = [3, 5, 8, 8, 5, 3, 2] + 9 * [1]
        most = greatest(coder)
        first_is = coder.number(2)
        size = grid.size(most)
        ranks[-1 if not first_is else 0] = grid.rank(-most if first_is else most)
        if count > 1 and first_is:
            room = ranks[0] + count - 1, grid.rank(most) - 1
            ranks[-1] = near(coder, grid, shares, size, -size, size, *room)
        elif count > 1:
            room = grid.rank(-most), ranks[-1] - count + 1
            ranks[0] = near(coder, grid, shares, -size, -size, size, *room)
        spans = [(0, count - 1)]
        while spans:
            a, b = spans.pop()
            if b - a > 1:
                middle = (a + b) // 2
                u, v = grid.value(ranks[a]), grid.value(ranks[b])
                x = u + (v - u) * (middle - a) // (b - a)
                room = ranks[a] + middle - a, ranks[b] - (b - middle)
                ranks[middle] = near(coder, grid, shares, x, u, v, *room)
                spans += [(middle, b), (a, middle)]
    coder.end()
    return [grid.number(rank) for rank in ranks]


def real(source, letter):
    return struct.unpack("<" + letter, source.take(struct.calcsize(letter)))[0]


def ascending_codebook(source, k, way, dtype):
    """Values of a codebook that is not stored plainly; those of bfloat16 as float32."""
    carrier = "float32" if dtype == "bfloat16" else dtype
    mantissa, letter = MANTISSA[carrier], LETTERS[carrier]
    zero_first, kind = way & 64, way & 63
    count = k - bool(zero_first)
    assert count >= 0
    if kind <= mantissa:
        infinity = (2 ** EXPONENT[carrier] - 1) << mantissa
        grid = Grid(float_size(mantissa, kind), zero_first)
        numbers = on_grid(source, count, grid, lambda coder: coder.number(((infinity - 1) >> kind) + 1))
        bits = ((abs(n) << kind).to_bytes(8, "little")[: struct.calcsize(letter)] for n in numbers)
        sizes = (struct.unpack("<" + letter, b)[0] for b in bits)
        values = [size if n >= 0 else -size for n, size in zip(numbers, sizes, strict=True)]
    elif kind >= 60:
        first, step = real(source, "d" if kind & 2 else "f"), real(source, "d" if kind & 1 else "f")
        values = [first + i * step for i in range(count)]
    else:
        step = 2.0 ** (source.u8() - 192) if kind == 56 else real(source, {57: "f", 58: "d"}[kind])

        def greatest(coder):
            digits = coder.number(32)
            return 2 ** (digits - 1) + coder.number(2 ** (digits - 1)) if digits else 0

        values = [n * step for n in on_grid(source, count, Grid(int, zero_first), greatest)]
    values = [struct.unpack(letter, struct.pack(letter, value))[0] for value in values]
    return [0.0] * bool(zero_first) + values
