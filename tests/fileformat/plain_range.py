"""Range-coded tensors and directories, in plain Python from docs/format.md alone."""

from collections import defaultdict


class RangeDecoder:
    def __init__(self, data):
        self.data, self.at, self.range = data, 4, 2**32 - 1
        self.value = int.from_bytes((data + bytes(4))[:4], "big")
        assert self.value < self.range

    def narrow(self, value, size):
        self.value, self.range = value, size
        while self.range < 2**24:
            self.range *= 256
            self.value = 256 * self.value + (self.data[self.at] if self.at < len(self.data) else 0)
            self.at += 1

    def share(self, counts):
        width = self.range // sum(counts)
        number, before = self.value // width, 0
        assert number < sum(counts)
        for symbol, count in enumerate(counts):
            if number < before + count:
                self.narrow(self.value - before * width, count * width)
                return symbol
            before += count
        raise AssertionError

    def number(self, below):
        digits = f"{below - 1:b}" if below > 1 else ""
        number, tight = 0, True
        for start in range(0, len(digits), 16):
            group = digits[start : start + 16]
            most = int(group, 2) if tight else 2 ** len(group) - 1
            width = self.range // (most + 1)
            symbol = self.value // width
            assert symbol <= most
            self.narrow(self.value - symbol * width, width)
            tight = tight and symbol == most
            number = number * 2 ** len(group) + symbol
        return number

    def bit(self, probability):
        t = self.range * probability // 2**16
        one = self.value < t
        if one:
            self.narrow(self.value, t)
        else:
            self.narrow(self.value - t, self.range - t)
        return int(one)

    def end(self):
        beyond = self.at - len(self.data)
        assert beyond >= 0
        assert self.range - self.value <= 256**beyond
        assert not self.data or self.data[-1] * 256**beyond > self.value


def adaptive_words(source, numel, size):
    """Elements as bytes."""
    w = 8 * min(size, 8)
    count = numel * size * 8 // w
    e, d = source.u8(), source.u8()
    assert count <= 1024
    assert e <= 11
    assert e + d <= w - (w > 8)
    coder = RangeDecoder(source.take(len(source.data) - source.at))
    seen = defaultdict(list)

    def learned(place):
        n, ones = len(seen[place]), sum(seen[place])
        seen[place].append(coder.bit(2**16 * (2 * ones + 1) // (2 * n + 2)))
        return seen[place][-1]

    words = b""
    for _ in range(count):
        exponent = ""
        for _ in range(e):
            exponent += str(learned(exponent))
        sign = str(learned("sign")) if w > 8 else ""
        rest = w - len(sign) - e - d
        mantissa = coder.number(2**rest)
        tail = f"{mantissa:0{rest}b}" if rest else ""
        words += int(sign + exponent + tail + "0" * d, 2).to_bytes(w // 8, "little")
    coder.end()
    return words


def range_coded_string(data, count, primer):
    coder, seen, past = RangeDecoder(data), defaultdict(lambda: [0, 0]), b""
    for at in range(len(primer) + count):
        bits = ""
        known = f"{primer[at]:08b}" if at < len(primer) else ""
        while len(bits) < 8:
            p = 2**15
            for order in range(min(3, len(past)) + 1):
                zeros, ones = seen[past[len(past) - order :], bits]
                p = (2**16 * ones + 2 * p) // (zeros + ones + 2)
            bits += known[len(bits)] if known else str(coder.bit(min(max(p, 64), 2**16 - 64)))
        for i, bit in enumerate(bits):
            for order in range(min(3, len(past)) + 1):
                counts = seen[past[len(past) - order :], bits[:i]]
                counts[int(bit)] += 1
                other = 1 - int(bit)
                counts[other] = (counts[other] + 2) // 2 if counts[other] > 2 else counts[other]
        past += bytes([int(bits, 2)])
    coder.end()
    return past[len(primer) :]
