"""Streams of symbols in fixed widths, Huffman codes and rANS, in plain Python from docs/format.md alone."""

import math
import struct


class Bytes:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert self.at + count <= len(self.data)
        self.at += count
        return self.data[self.at - count : self.at]

    def u8(self):
        return self.take(1)[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def text(self):
        return self.take(self.varint())

    def bits(self):
        """Bits from here on; the generator's caller tells how many bytes it has used."""
        for byte in self.data[self.at :]:
            for i in range(8):
                yield byte >> i & 1


class BitCounter:
    def __init__(self, source):
        self.source, self.iterator, self.used = source, source.bits(), 0

    def bit(self):
        self.used += 1
        return next(self.iterator)

    def number(self, digits):
        value = 0
        for _ in range(digits):
            value = 2 * value + self.bit()
        return value

    def ones(self):
        return next((count for count in range(4) if not self.bit()), 4)

    def close(self):
        while self.used % 8:
            assert self.bit() == 0
        self.source.take(self.used // 8)


def clog2(n):
    return 0 if n <= 1 else math.ceil(math.log2(n))


def fixed_stream(source, count, alphabet):
    bits = BitCounter(source)
    symbols = [sum(bits.bit() << i for i in range(clog2(alphabet))) for _ in range(count)]
    bits.close()
    return symbols


def code_lengths(source, first, span):
    if span == 0:
        return None
    bits = BitCounter(source)
    lengths, length, symbol = {}, bits.number(5), first
    while True:
        lengths[symbol] = length
        if symbol == first + span:
            bits.close()
            return lengths
        symbol += 1
        ones = bits.ones()
        if ones == 3:
            zeros = 0
            while not bits.bit():
                zeros += 1
            symbol += (1 << zeros) + bits.number(zeros)
            ones = bits.ones()
        length = bits.number(5) if ones == 4 else length + [0, 1, -1][ones]


def huffman_stream(source, count, alphabet):
    if count == 0:
        return []
    first = source.varint()
    lengths = code_lengths(source, first, source.varint())
    if lengths is None:
        return [first] * count
    codewords, code, before = {}, 0, 0
    for symbol in sorted(lengths, key=lambda s: (lengths[s], s)):
        code <<= lengths[symbol] - before
        before = lengths[symbol]
        codewords[before, code] = symbol
        code += 1
    assert code == 1 << before
    streams = 4 if count >= 65536 else 1
    for _ in range(streams - 1):
        source.varint()
    chunk, symbols = -(-count // streams), []
    for start in range(0, count, chunk):
        bits = BitCounter(source)
        for _ in range(min(chunk, count - start)):
            length = code = 0
            while (length, code) not in codewords:
                length, code = length + 1, 2 * code + bits.bit()
            symbols.append(codewords[length, code])
        bits.close()
    return symbols


def rans_table(source):
    first, span = source.varint(), source.varint()
    lengths = code_lengths(source, first, span)
    if lengths is None:
        return first
    head = source.u8()
    n, digits = head % 16 + 1, head // 16 % 8
    rest = max(lengths, key=lambda s: (lengths[s], -s))
    bits, shares = BitCounter(source), {}
    for symbol, length in lengths.items():
        kept = 0 if symbol == rest else length - 1 if digits == 7 else min(digits, length - 1)
        shares[symbol] = ((1 << kept) + bits.number(kept)) << (length - 1 - kept)
    bits.close()
    shares[rest] = 0
    shares[rest] = 2**n - sum(shares.values())
    assert shares[rest] > 0
    slots = [(symbol, i) for symbol, share in shares.items() for i in range(share)]
    return n, shares, slots, 32 if head >= 128 else 1


def rans_stream(source, count, alphabet):
    if count == 0:
        return []
    table = rans_table(source)
    if isinstance(table, int):
        return [table] * count
    n, shares, slots, lanes = table
    block = 1 << 20
    sizes = [source.varint() for _ in range(-(-count // block) - 1)]
    symbols = []
    for start, size in zip(range(0, count, block), [*sizes, None], strict=True):
        begin = source.at
        states = [struct.unpack("<I", source.take(4))[0] for _ in range(lanes)]
        assert min(states) >= 2**16
        for i in range(min(block, count - start)):
            x = states[i % lanes]
            symbol, place = slots[x % 2**n]
            x = shares[symbol] * (x >> n) + place
            if x < 2**16:
                x = x * 2**16 + struct.unpack("<H", source.take(2))[0]
            states[i % lanes] = x
            symbols.append(symbol)
        assert set(states) == {2**16}
        assert size in (None, source.at - begin)
    return symbols


STREAMS = {16: fixed_stream, 17: huffman_stream, 18: rans_stream}
