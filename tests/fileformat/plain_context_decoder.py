"""A decoder of the ``context`` coder's index arrays, written from docs/format.md alone. Slow on purpose."""

import math
from bisect import bisect_left
from functools import cache, partial

BLOCK = 1 << 20


def cut(x, low, high):
    return min(max(x, low), high)


def logistic(digits):
    upper, e = [], 2**60
    for _ in range(2816):
        upper.append((2 ** (digits + 1) * e // (e + 2**60) + 1) // 2)
        e = e * 1157433911791679357 // 2**60
    return {s * x: y if s == 1 else 2**digits - y for x, y in enumerate(upper) for s in (-1, 1)}


@cache
def squash_table():
    return {x: cut(y, 12, 65524) for x, y in logistic(16).items()}


@cache
def stretch_table():
    fine = sorted(logistic(32).values())
    return [min(bisect_left(fine, (2 * i + 1) * 2**17) - 2815, 2815) for i in range(2**14)]


@cache
def log(i):
    return max(0, (cut(i, 1, 8191) ** 16).bit_length() - 49)


def q(x, step, most):
    return cut(x // step, 0, most)


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

    def learn(self, size, kind):
        rates = {"row": 2**16 // (min(self.seen, 255) + 5), "position": 2**8}
        rate = rates.get(kind) or 2**17 // (2 * min(self.seen, 1023) + 5)
        self.mean = self.value() + ((size - self.value()) * rate // 2**16)
        self.seen += 1


class Block:
    """Decodes the decisions of a block."""

    def __init__(self, data, guess):
        self.data, self.at, self.value, self.span = data, 0, 0, 2**32 - 1
        for _ in range(4):
            self.next_byte()
        assert self.value < 2**32 - 1
        self.squash, self.stretch = squash_table(), stretch_table()
        self.nodes = {"nonzero": [2**6 * self.squash[2815 * (guess - 128) // 128], 0]}
        self.states, self.weights = {}, {}

    def next_byte(self):
        self.value = self.value * 2**8 + (self.data[self.at] if self.at < len(self.data) else 0)
        self.at += 1

    def decide(self, node, contexts, sets):
        own = self.nodes.setdefault(node, [2**21, 0])
        states = [self.states.setdefault((i, c), [own[0], 0]) for i, c in enumerate(contexts)]
        x = [self.stretch[p // 2**8] for p, _ in states]
        mixers = [self.weights.setdefault(key, [[12300] * 6, 3200, 0]) for key in sets]
        y = [cut(sum(a * b for a, b in zip(m[0], x, strict=True)) // 2**16, -2815, 2815) for m in mixers]
        bound = self.span * self.squash[sum(y) // 2] // 2**16
        bit = int(self.value < bound)
        self.span = bound if bit else self.span - bound
        self.value -= 0 if bit else bound
        while self.span < 2**24:
            self.span *= 2**8
            self.next_byte()
        for mixer, logit in zip(mixers, y, strict=True):
            weights, rate, uses = mixer
            e = (65535 * bit - self.squash[logit]) * rate
            learning = math.isqrt(320**2 * 2**13 // (256 * (uses // 256) + 2**13))
            mixer[0] = [w + (a * e + 2**23) // 2**24 for w, a in zip(weights, x, strict=True)]
            mixer[1], mixer[2] = rate + (learning - rate) // 64, min(uses + 1, 2**20 - 1)
        for state in [*states, own]:
            p, n = state
            p += (((2**22 - 1) * bit - p) * (2**17 // (2 * n + 5)) + 2**15) // 2**16
            state[:] = max(p, 1), min(n + 1, 1023)
        return bit

    def h(self, context):
        p, _ = self.states.get(context, self.nodes["nonzero"])
        return cut((self.stretch[p // 2**8] + 1632) // 192, 0, 16)

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


def ask_size(block, positive, digits, contexts, base, node, step):
    shared = {3} if digits else {2, 3, 5}
    keys = [("size", node, i in shared or positive, value) for i, value in enumerate(contexts)]
    sets = [("base", min(15, step), base), ("step", min(15, step))]
    return block.decide(("size", node, positive), keys, sets)


def decode_block(data, numel, width, lag, inner, below, above, digits, guess):
    block, rows = Block(data, guess), {}
    whole = Mean(lambda: 2**12)
    columns = [Mean(whole.value) for _ in range(width)]
    groups, positions = ([Mean(whole.value) for _ in range(width)] for _ in range(2))
    group_size = lag if lag > 1 else 8
    for i in range(numel):
        r, c = divmod(i, width)
        if c == 0:
            row_mean = Mean(partial(int, whole.value()))
            block.states.pop((5, "row"), None)
        v = lambda dr, dc, at=(r, c): rows.get((at[0] - dr, at[1] - dc), 0)  # noqa: E731
        W, WW, N, NN, NW, NE = v(0, 1), v(0, 2), v(1, 0), v(2, 0), v(1, 1), v(1, -1)
        B, BE, BW, BB = v(0, lag), v(0, lag - 1), v(0, lag + 1), v(0, 2 * lag)
        O = v(0, inner) if inner > 1 else B  # noqa: E741
        place, group = c % lag, c // group_size
        k, age = min(63, place), min(9, r.bit_length())
        count = min(6, sum(level != 0 for level in (W, B, WW, BE, BW, BB)))
        near = tuple(level != 0 for level in (W, B, N, WW, BE, BW, O))
        contexts = [c, group, near, (k, min(3, abs(W)), min(3, abs(O)))]
        contexts += [(block.h((1, group)), block.h((5, "row"))), "row"]
        if not block.decide("nonzero", contexts, [("age", age), ("count", count)]):
            continue
        positive = below == 0
        if below and above:
            scaled = cut(8 + 2**14 * (W + O) // whole.value(), 0, 15)
            contexts = [(k, sg(W), sg(O)), (sg(W), sg(WW), sg(BB)), (sg(BE), sg(BW), sg(N), sg(NN))]
            contexts += [(k, scaled), (sg(W), sg(B), sg(O)), group]
            contexts = [("positive", context) for context in contexts]
            positive = bool(block.decide("positive", contexts, [("age+", age), ("count+", count)]))
        log_row, log_group, log_whole = row_mean.lg(), groups[group].lg(), whole.lg()
        near_sum = 3 * (abs(W) + abs(B) + abs(N)) + sum(map(abs, (WW, BE, BW, BB, NN, NW, NE)))
        epsilon = log_row + columns[c].lg() - log_whole
        if lag > 1:
            epsilon = log_row + log_group + positions[place].lg() - 2 * log_whole

        contexts = [q(log_row, 6, 31), q(log_group, 6, 31), q(epsilon, 6, 63)]
        contexts += [
            q(epsilon + log(16 * near_sum), 10, 31),
            (al(W, positive, digits), al(O, positive, digits)),
        ]
        contexts.append(q(epsilon + log(64 * (abs(W) + abs(O))), 5, 63))
        ask = partial(ask_size, block, positive, digits, contexts, q(epsilon, 12, 31))
        size = 1 + magnitude(ask, above if positive else below, digits)
        rows[r, c] = size if positive else -size
        own = [(row_mean, "row"), (columns[c], "row"), (groups[group], "row"), (positions[place], "position")]
        for mean, kind in [*own, (whole, "whole")]:
            mean.learn(2**12 * min(127, size), kind)
    block.close()
    return [rows.get(divmod(i, width), 0) for i in range(numel)]
