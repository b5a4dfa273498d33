"""Attack the reader with far more inputs than CI has time for: ``make fuzz``, ``make fuzz N=20000``.

The inputs are those of tests/fileformat/fuzzing.py: random bytes, and mutations of every section of every
coder's payloads with right checksums. A finding is written to ``fuzz/findings`` and can be made again from
its target, seed and number.
"""

import argparse
import multiprocessing
import os
import resource
import secrets
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "fileformat"))

from fuzzing import check, generator_of, noise, structured_targets  # noqa: E402

BATCH = 500

#: No input may take more processor time than this, in seconds, or more memory than this on top, in bytes.
LONGEST = 1.0
MEMORY = 1 << 30

#: One accepted input in so many is also described, written and read again.
AGAIN_EVERY = 10


def attack(batch: tuple[int, str, int, int]) -> tuple[str, int, int, list[str]]:
    """Try some inputs of a target; returns the target, how many, how many were accepted, and findings."""
    seed, name, start, count = batch
    accepted, findings = 0, []
    for number in range(start, start + count):
        data = TARGETS[name](generator_of(seed, name, number))
        again = number % AGAIN_EVERY == 0
        try:
            is_accepted, seconds = _timed(data, again)
            accepted += is_accepted
            # The second time, nothing is left to compile.
            if seconds > LONGEST and _timed(data, again)[1] > LONGEST:
                findings.append(_report(seed, name, number, data, "slow"))
        except Exception:  # whatever it is, it is a finding
            findings.append(_report(seed, name, number, data, traceback.format_exc()))
    return name, count, accepted, findings


def _timed(data: bytes, again: bool) -> tuple[bool, float]:
    """Whether an input is accepted, and the processor time that this takes to find out."""
    begin = time.process_time()
    return check(PATH, data, again=again), time.process_time() - begin


def _report(seed: int, name: str, number: int, data: bytes, what: str) -> str:
    stem = f"{name.replace(': ', '-').replace(' ', '-')}-{seed}-{number}"
    folder = HERE / "findings"
    folder.mkdir(exist_ok=True)
    (folder / f"{stem}.fwt").write_bytes(data)
    (folder / f"{stem}.txt").write_text(what)
    return f"target {name!r}, seed {seed}, number {number}: {what.strip().splitlines()[-1]}"


def prepare(folder: str) -> None:
    """Set a process up: its targets, its file, its limits."""
    global TARGETS, PATH
    warnings.simplefilter("error")
    TARGETS = {"noise": noise, **structured_targets(_own_folder(folder))}
    PATH = _own_folder(folder) / "input.fwt"
    for name, target in TARGETS.items():  # compiles what is to be compiled
        for number in range(20):
            check(PATH, target(generator_of(0, name, number)))
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY,) * 2)


def _own_folder(folder: str) -> Path:
    own = Path(folder) / str(os.getpid())
    own.mkdir(exist_ok=True)
    return own


def batches(seed: int, names: list[str], inputs: int):
    """All targets in turn, so that an early stop has seen each."""
    for start in range(0, -(-inputs // len(names)), BATCH):
        count = min(BATCH, -(-inputs // len(names)) - start)
        yield from ((seed, name, start, count) for name in names)


def main() -> int:
    """Read the options and attack."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None, help="a random one unless given")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--target", help="only targets whose name contains this")
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a fresh folder in it
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        names = [
            name for name in ("noise", *structured_targets(Path(folder))) if (options.target or "") in name
        ]
        print(f"seed {seed}, {len(names)} targets, {options.processes} processes", flush=True)
        return run(seed, names, options.inputs, options.processes, folder)


def run(seed: int, names: list[str], inputs: int, processes: int, folder: str) -> int:
    """Attack until all inputs are used; returns 1 if anything was found."""
    tried, accepted, findings = Counter(), Counter(), []
    begin = shown = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, prepare, (folder,)) as pool:
        for name, count, taken, found in pool.imap_unordered(attack, batches(seed, names, inputs)):
            tried[name] += count
            accepted[name] += taken
            findings += found
            for finding in found:
                print(f"FOUND {finding}", flush=True)
            if time.monotonic() - shown > 10:
                shown = time.monotonic()
                rate = tried.total() / (shown - begin)
                print(f"{tried.total():,} of {inputs:,}, {rate:,.0f} a second", flush=True)
    for name in names:
        print(f"{name:28} {tried[name]:>10,} tried {accepted[name]:>10,} accepted")
    seconds = time.monotonic() - begin
    print(f"seed {seed}: {tried.total():,} inputs in {seconds:.0f} s, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
