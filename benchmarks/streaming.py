"""What memory a large checkpoint takes to compress and to decompress, against a limit.

A checkpoint of 64 MiB float32 tensors of normally distributed weights is made in a temporary folder, once as
one ``.safetensors`` file and once in shards, and goes through ``featherweight compress --bits 5`` and
``featherweight decompress`` in processes of their own. Peak memory is the resident set that the system counts
for each (``ru_maxrss``), pages of mapped files and the interpreter with PyTorch included. Exits with 1 where
the limit is passed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from common import write_json
from featherweight.interop.safetensors import write_safetensors
from featherweight.lazy import LazyTensors, TensorSpec

SIDE = 4096  # a square float32 matrix of this side takes 64 MiB
TENSOR_BYTES = SIDE * SIDE * 4
TENSORS_A_SHARD = 10
LIMIT_BYTES = int(1.5 * 2**30)


class RandomTensors(LazyTensors[torch.Tensor]):
    """Matrices of random weights, each made when it is asked for."""

    def __init__(self, numbers: range) -> None:
        self._numbers = {f"layers.{number}.weight": number for number in numbers}
        super().__init__({name: TensorSpec("float32", (SIDE, SIDE)) for name in self._numbers})

    def __getitem__(self, name: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self._numbers[name])
        return torch.randn(SIDE, SIDE, generator=generator)


def make_whole(folder: Path, count: int) -> Path:
    """A checkpoint in one file."""
    path = folder / "model.safetensors"
    write_safetensors(RandomTensors(range(count)), path)
    return path


def make_shards(folder: Path, count: int) -> Path:
    """The same checkpoint in several files, and their index."""
    starts = range(0, count, TENSORS_A_SHARD)
    weight_map = {}
    for number, start in enumerate(starts, start=1):
        shard = folder / f"model-{number:05}-of-{len(starts):05}.safetensors"
        tensors = RandomTensors(range(start, min(start + TENSORS_A_SHARD, count)))
        write_safetensors(tensors, shard)
        weight_map.update(dict.fromkeys(tensors, shard.name))
    index = folder / "model.safetensors.index.json"
    contents = {"metadata": {"total_size": count * TENSOR_BYTES}, "weight_map": weight_map}
    index.write_text(json.dumps(contents), encoding="utf-8")
    return index


def measure(*arguments: str | Path) -> dict[str, float]:
    """Run one command; its seconds and its peak of resident bytes."""
    command = [sys.executable, "-m", "featherweight", *map(str, arguments)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exited with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": seconds, "peak_bytes": usage.ru_maxrss * unit}


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def show(kind: str, verb: str, figures: dict[str, float]) -> None:
    """One line of the table."""
    verdict = "ok" if figures["peak_bytes"] <= LIMIT_BYTES else "OVER THE LIMIT"
    mebibytes = figures["peak_bytes"] / 2**20
    print(f"  {kind:<8}{verb:<12}{figures['seconds']:8.1f} s{mebibytes:9.0f} MiB  {verdict}", flush=True)


def round_trip(kind: str, folder: Path, count: int, options: list[str]) -> dict[str, Any]:
    """Make one kind of checkpoint, compress it, decompress it, and print both lines."""
    source = (make_shards if kind == "shards" else make_whole)(folder, count)
    small, back = folder / "small.fwt", folder / "back.safetensors"
    results: dict[str, Any] = {"compress": measure("compress", source, "-o", small, "--quiet", *options)}
    show(kind, "compress", results["compress"])
    results["decompress"] = measure("decompress", small, "-o", back, "--quiet")
    show(kind, "decompress", results["decompress"])
    return {**results, "bytes": small.stat().st_size, "sha256": digest(small)}


def main() -> None:
    """Measure both kinds of checkpoint."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--gib", type=float, default=4.0, help="size of the checkpoint")
    options.add_argument(
        "--dir", type=Path, help="where the temporary folders are; the system's unless given"
    )
    options.add_argument("--json", type=Path, metavar="PATH", help="write the figures here, too")
    options.add_argument("--sparsity", help="prune, too")
    args = options.parse_args()
    count = max(1, round(args.gib * 2**30 / TENSOR_BYTES))
    compress = ["--bits", "5", *(["--sparsity", args.sparsity] if args.sparsity else [])]
    print(f"{count} tensors of 64 MiB; the limit is {LIMIT_BYTES / 2**20:.0f} MiB of resident memory")
    figures: dict[str, Any] = {"dense_bytes": count * TENSOR_BYTES, "limit_bytes": LIMIT_BYTES}
    for kind in ("whole", "shards"):
        with tempfile.TemporaryDirectory(dir=args.dir) as folder:
            figures[kind] = round_trip(kind, Path(folder), count, compress)
    if figures["whole"]["sha256"] != figures["shards"]["sha256"]:
        raise SystemExit("the two checkpoints hold the same tensors but gave different files")
    print(f"  one and the same file from both, {figures['whole']['bytes']:,} bytes")
    write_json(args.json, figures)
    peaks = [
        figures[kind][verb]["peak_bytes"]
        for kind in ("whole", "shards")
        for verb in ("compress", "decompress")
    ]
    if max(peaks) > LIMIT_BYTES:
        raise SystemExit("the limit is passed")


if __name__ == "__main__":
    main()
