"""A decoder of the ``context`` coder's index arrays, written from docs/format.md alone. Slow on purpose."""

import math
from bisect import bisect_left
from functools import cache, partial

BLOCK = 1 << 20


def cut(x, low, high):
    return min(max(x, low), high)


def logistic(digits):
    upper, e = [], 2**60
    for _ in range(1408):
        upper.append((2 ** (digits + 1) * e // (e + 2**60) + 1) // 2)
        e = e * 1161963980038882736 // 2**60
    return {s * x: y if s == 1 else 2**digits - y for x, y in enumerate(upper) for s in (-1, 1)}


@cache
def squash_table():
    return {x: cut(y, 12, 65524) for x, y in logistic(16).items()}


@cache
def stretch_table():
    fine = sorted(logistic(32).values())
    return [min(bisect_left(fine, (2 * i + 1) * 2**20) - 1407, 1407) for i in range(2**11)]


@cache
def log(i):
    return max(0, (cut(i, 1, 8191) ** 16).bit_length() - 49)


@cache
def learning(i):
    return math.isqrt(320**2 * 2**14 // (512 * i + 2**14))


def sg(level):
    return (level > 0) - (level < 0)


class Mean:
    """A running mean, which stands at what ``prior`` says until something has gone into it."""

    def __init__(self, prior):
        self.prior, self.mean, self.seen = prior, None, 0

    def value(self):
        return self.prior() if self.mean is None else self.mean

    def lg(self):
        return log(self.value() // 64)

    def learn(self, size):
        rate = 2**17 // (2 * min(self.seen, 1023) + 5)
        self.mean = self.value() + ((size - self.value()) * rate // 2**16)
        self.seen += 1


class Block:
    """Decodes the decisions of a block."""

    def __init__(self, data, guess):
        self.data, self.at, self.value, self.span = data, 6, 0, 2**48 - 1
        for at in range(6):
            self.value = self.value * 2**8 + self.byte(at)
        assert self.value < 2**48 - 1
        self.squash, self.stretch = squash_table(), stretch_table()
        self.first = {"nonzero": 2**6 * self.squash[1407 * (guess - 128) // 128]}
        self.states, self.weights, self.rate = {}, {}, learning(0)

    def byte(self, at):
        return self.data[at] if at < len(self.data) else 0

    def decide(self, question, contexts, weight_set):
        keys = [(question, i, context) for i, context in enumerate(contexts)]
        first = self.states.setdefault(keys[0], [self.first.get(question, 2**21), 0])[0]
        states = [self.states.setdefault(key, [first, 0]) for key in keys]
        x = [self.stretch[p // 2**11] for p, _ in states]
        weights = self.weights.setdefault((question, weight_set), [68800 // len(x)] * len(x) + [3200])
        y = cut(sum(a * b for a, b in zip(weights, x, strict=False)) // 2**16, -1407, 1407)
        bit = self.bit(self.squash[y])
        e = (65535 * bit - self.squash[y]) * weights[-1] // 2**8
        weights[:-1] = [w + (a * e + 2**14) // 2**15 for w, a in zip(weights, x, strict=False)]
        weights[-1] += (self.rate - weights[-1]) // 64
        for state in states:
            p, n = state
            p += (65535 * bit - p // 2**6) * (2**17 // (2 * n + 5)) // 2**10
            state[:] = p, min(n + 1, 1023)
        return bit

    def bit(self, probability):
        bound = self.span // 2**16 * probability
        bit = int(self.value < bound)
        self.span = bound if bit else self.span - bound
        self.value -= 0 if bit else bound
        if self.span < 2**32:
            self.span *= 2**16
            self.value = self.value * 2**16 + self.byte(self.at) * 2**8 + self.byte(self.at + 1)
            self.at += 2
        return bit

    def close(self):
        z = self.at - len(self.data)
        assert z >= 0
        assert self.span - self.value <= 2 ** (8 * z)
        assert not self.data or self.data[-1] * 2 ** (8 * z) > self.value


def magnitude(ask, most, digits):
    m = s = 0
    if most == 1:
        return 0
    if digits:
        for step in range((most - 1).bit_length()):
            m = 2 * m + ask((step, m if step < 8 else None), step)
        assert m < most
        return m
    while not (s == most - 1 and s < 20) and ask(s, s):
        s += 1
        assert s < 36
    if s < 20:
        return s
    m = 1
    for left in range(s - 20, 0, -1):
        m = 2 * m + ask(("digit", left), 15)
    assert m + 19 < most
    return m + 19


def al(level, positive, digits):
    t = sum(abs(level) >= limit for limit in (16, 32, 64)) if digits else min(3, abs(level))
    return 3 + t if (level > 0) == positive else 3 - t


def ask_size(block, contexts, node, step):
    return block.decide("size", [(node, context) for context in contexts], min(15, step))


def decode_block(data, numel, width, lag, inner, below, above, digits, guess):
    block, rows = Block(data, guess), {}
    whole = Mean(lambda: 2**12)
    groups = [Mean(whole.value) for _ in range(width)]
    group_size = lag if lag > 1 else 8
    for i in range(numel):
        r, c = divmod(i, width)
        if c == 0:
            row_mean = Mean(partial(int, whole.value()))
            block.rate = learning(i // 512)
            block.states.pop(("nonzero", 4, "row"), None)
        v = lambda dr, dc, at=(r, c): rows.get((at[0] - dr, at[1] - dc), 0)  # noqa: E731
        W, WW, N, NN = v(0, 1), v(0, 2), v(1, 0), v(2, 0)
        B, BE, BW, O = v(0, lag), v(0, lag - 1), v(0, lag + 1), v(0, inner if inner > 1 else lag)  # noqa: E741
        if lag == 1:
            B = BE = BW = O = 0  # noqa: E741
        k, group = min(63, c % lag), c // group_size
        near = tuple(level != 0 for level in (W, WW, BE, B, BW, N, O))
        contexts = [near, c, group, (k, min(3, abs(W)), min(3, abs(O))), "row"]
        if not block.decide("nonzero", contexts, sum(near[:5])):
            continue
        positive = below == 0
        if below and above:
            contexts = [(sg(W), sg(B), sg(O)), (k, sg(W), sg(O)), (sg(BE), sg(BW), sg(N), sg(NN))]
            positive = bool(block.decide("positive", [*contexts, (k, cut(8 + W + O, 0, 15))], None))
        epsilon = row_mean.lg() + groups[group].lg() - whole.lg()
        expected = cut((epsilon + log(64 * (abs(W) + abs(O)))) // 5, 0, 63)
        contexts = [positive, (expected, digits and positive)]
        contexts.append((positive, al(W, positive, digits), al(O, positive, digits)))
        size = 1 + magnitude(partial(ask_size, block, contexts), above if positive else below, digits)
        rows[r, c] = size if positive else -size
        for mean in (row_mean, groups[group], whole):
            mean.learn(2**12 * min(127, size))
    block.close()
    return [rows.get(divmod(i, width), 0) for i in range(numel)]
