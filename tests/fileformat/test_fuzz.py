"""Hostile inputs by the thousand; ``make fuzz`` runs the same ones by the million."""

import time
from collections import Counter

import pytest
from fuzzing import (
    check,
    generator_of,
    noise,
    section_targets,
    structured_targets,
)

from featherweight.coding import CODERS, RAW_CODERS

SEED = 0
RANDOM_INPUTS = 10_000
MUTATIONS = 20_000

#: Inputs that are accepted and then also described, written and read again: one in so many.
AGAIN_EVERY = 10

#: Names of all targets; making them takes no file but for the directory's.
TARGETS = ["directory", "coded directory", *section_targets()]

#: No input may take longer than this, in seconds.
LONGEST = 1.0


def attack(path, target, name, count):
    """How many inputs of a target were accepted; every one must be accepted or refused as it should be."""
    accepted = 0
    for number in range(count):
        data = target(generator_of(SEED, name, number))
        start = time.perf_counter()
        try:
            accepted += check(path, data, again=number % AGAIN_EVERY == 0)
            if time.perf_counter() - start > LONGEST:  # compiled just now? Then not a second time
                start = time.perf_counter()
                check(path, data, again=number % AGAIN_EVERY == 0)
        except Exception as error:
            pytest.fail(f"{name}, seed {SEED}, input {number}: {type(error).__name__}: {error}\n{data.hex()}")
        assert time.perf_counter() - start < LONGEST, f"{name}, seed {SEED}, input {number} is slow"
    return accepted


def test_random_bytes(fast_folder):
    assert attack(fast_folder / "f.fwt", noise, "noise", RANDOM_INPUTS) < RANDOM_INPUTS / 100


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_with_right_checksums(fast_folder, name):
    target = structured_targets(fast_folder)[name]
    count = -(-MUTATIONS // len(TARGETS))
    accepted = attack(fast_folder / "f.fwt", target, name, count)
    # Both ends are reached: the parser's checks, and the values behind them.
    assert 0 < accepted < count


def test_every_coder_and_section_is_a_target():
    sections = Counter(name.split(": ")[-1] for name in TARGETS)
    assert sections == {
        "directory": 1,
        "coded directory": 1,
        **dict.fromkeys(("codebook", "tables", "bitstream", "positions", "codes"), len(CODERS)),
        **dict.fromkeys(("head", "body"), len(RAW_CODERS)),
    }


def test_inputs_can_be_made_again(fast_folder):
    for name, target in structured_targets(fast_folder).items():
        first, second, other = (target(generator_of(SEED, name, number)) for number in (5, 5, 6))
        assert first == second != other
