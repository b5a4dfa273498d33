"""The arrays that the ``context`` coder's kernel works on, and the call that codes a block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.coding import machine_code

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What the kernel is made of, itself first.
_MODULES = (
    "context_kernel",
    "context_block",
    "context_magnitude",
    "context_mixer",
    "context_steps",
    "context_tables",
    "memory_kernels",
    "machine_code",
)
_ARGUMENTS = 17

#: Columns of a group where there is no lag.
GROUP = 8

# How many contexts there are of each kind.
NEAR, PLACES, SIGNS = 128, 64, 1024

#: Magnitudes up to this are coded in unary, what is above with Elias' gamma code; all digits are modelled.
UNARY_LIMIT = 20
GAMMA_DIGITS = 16

#: The other binarisation: the digits of a magnitude, of which so many have contexts that know those before.
TREE_DEPTH = 8

# Different questions of each kind, and contexts of a question.
UNARY_NODES = UNARY_LIMIT + 2 * GAMMA_DIGITS
TREE_NODES = (1 << TREE_DEPTH) + 16 - TREE_DEPTH
SIZES = 64

#: The first decisions on a magnitude have weight sets of their own.
STEPS = 16

# Weight sets: by the number of nonzero neighbours in the row; for signs; by the step.
SIGN_SET = 6
SIZE_SETS = SIGN_SET + 1

#: Integers in a weight set, and where its rate is.
SET_SIZE = 8
RATE_AT = 7

#: What the weights of a set begin with adds up to this, of 65,536.
_FIRST_WEIGHTS = 68_800
_FIRST_RATE = 3200

#: Rows kept: this one, two above, and one more to make it a power of two.
RING = 4


def _first_weights() -> NDArray[np.int32]:
    """The weight sets as they begin, each of as many weights as it mixes states."""
    weights = []
    for inputs in SIGN_SET * [5] + [4] + STEPS * [3]:
        weights += [_FIRST_WEIGHTS // inputs] * inputs + [0] * (SET_SIZE - inputs)
        weights[-SET_SIZE + RATE_AT] = _FIRST_RATE
    return np.array(weights, np.int32)


def code_block(
    levels: NDArray[np.int32],
    stream: NDArray[np.uint8],
    *,
    width: int,
    lag: int,
    inner: int,
    below: int,
    above: int,
    by_digits: bool,
    density: int,
    decoding: bool,
) -> tuple[int, int, int]:
    """Encode ``levels`` into ``stream``, or decode them from it; both are contiguous.

    Args:
        levels: ``(n,)``; see :func:`featherweight.coding.context_kernel.code_levels` for all of them.
        stream: bytes.
        width: columns.
        lag: distance of neighbours in a row.
        inner: a second such distance.
        below: number of negative levels.
        above: number of positive levels.
        by_digits: how magnitudes become decisions.
        density: first guess of the probability of a nonzero level.
        decoding: the direction.

    Returns:
        ``(position, value, range)``: bytes taken, or a negative number that tells what is wrong, and the
        range coder's last interval.
    """
    groups = width // (lag if lag > 1 else GROUP) + 1
    nodes = TREE_NODES if by_digits else UNARY_NODES
    states = np.zeros(NEAR + width + groups + 16 * PLACES + 1 + 4 * SIGNS + 5 * nodes * SIZES, np.uint32)
    means = np.zeros(groups, np.uint32)
    ring = np.zeros(RING * (lag + width), np.int32)
    last = np.zeros(2, np.int64)
    arrays: list[NDArray[Any]] = [levels, states, _first_weights(), means, ring, stream, last]
    run = machine_code.kernel(_MODULES, "code_levels", _ARGUMENTS)
    numbers = levels.size, stream.size, width, lag, inner, below, above, int(by_digits), density
    # An int of Python's also where the kernel runs in plain Python: checks shift by it.
    position = int(run(*map(machine_code.address_of, arrays), *numbers, int(decoding)))
    return position, int(last[0]), int(last[1])
