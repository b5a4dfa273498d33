"""A network of the record by other means: safetensors, zip, int8, NNCodec. ``make results-compare``.

NNCodec is measured where it is installed: ``pip install --no-deps nncodec==2.1.3``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import json
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file as load_safetensors
from torch import Tensor, nn

from featherweight.analysis.comparison import ComparedNetwork, ComparedRow, Comparison, load_comparison
from featherweight.analysis.results import COMPARISON, ResultRecord, load_record
from featherweight.data import ImageData
from featherweight.errors import FeatherweightError, RecipeError
from featherweight.interop.safetensors import write_safetensors
from featherweight.training.evaluate import evaluate
from featherweight.training.spec import ClassSpec, read_model_and_data

ROOT = Path(__file__).resolve().parents[1]

#: What NNCodec's package imports for its own training and logging; plain coding calls none of it, and it
#: is left out with --no-deps.
_UNUSED_BY_CODING = (
    "h5py",
    "wandb",
    "nncodec.framework.applications",
    "nncodec.framework.use_case_init",
    "nncodec.framework.tensorflow_model",
)


def main() -> int:
    """Measure the runs that were given, and put the rows into ``results/compare.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="finished runs of results")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository")
    arguments = parser.parse_args()
    path = arguments.root / "results" / COMPARISON
    try:
        networks = {n.name: n for n in load_comparison(path).networks} if path.exists() else {}
        records = [record_of(run, arguments.root) for run in arguments.runs]
        for run, record in zip(arguments.runs, records, strict=True):
            print(f"{record.name} …", file=sys.stderr)
            model, data = read_model_and_data(arguments.root / record.run_file)
            networks[record.name] = Comparer(model, data.create(), record).compare(run)
            comparison = Comparison(tuple(networks[name] for name in sorted(networks)), versions())
            text = json.dumps(asdict(comparison), indent=2, ensure_ascii=False)
            path.write_text(text + "\n", encoding="utf-8")
    except FeatherweightError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def versions() -> tuple[str, ...]:
    """Of what measured."""
    found = []
    for package in ("torch", "nncodec"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    return tuple(found)


def record_of(run: Path, root: Path) -> ResultRecord:
    """The result of a finished run.

    Raises:
        RecipeError: where the run has no weights or no result, or its result is not in the record.
    """
    for file in ("fit.safetensors", "result.json"):
        if not (run / file).is_file():
            raise RecipeError(f"{run}: holds no {file}; give the directory of a finished run")
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    record = load_record(root / "results" / f"{result['name']}.json")
    if result["bytes"] != record.bytes:
        raise RecipeError(
            f"{run}: its file has {result['bytes']:,} bytes, that of the record {record.bytes:,}; "
            f"give the run that the record is of"
        )
    return record


class Comparer:
    """Measures ways to store one network.

    Args:
        model: makes the network.
        images: tests it.
        record: the result that it stands beside.
    """

    def __init__(self, model: ClassSpec, images: ImageData, record: ResultRecord) -> None:
        self.model = model
        self.images = images
        self.record = record

    def compare(self, run: Path) -> ComparedNetwork:
        """The rows of one run's networks: as they were trained, and, if they were, as they were pruned."""
        fit = load_safetensors(run / "fit.safetensors")
        networks = {"float32": fit}
        if (run / "prune.safetensors").is_file():
            networks["pruned"] = load_safetensors(run / "prune.safetensors")
        ours = ComparedRow("Featherweight", self.record.bytes, self.record.error_percent)
        rows = [row for what, state in networks.items() for row in self.plain(state, what)]
        rows.append(self.int8(fit))
        missing = []
        try:
            rows += [self.nncodec(state, what) for what, state in networks.items()]
        except ImportError as error:
            missing.append(f"NNCodec is not installed ({error}); pip install --no-deps nncodec==2.1.3")
        return ComparedNetwork(self.record.name, self.record.dense_bytes, (*rows, ours), tuple(missing))

    def plain(self, state: dict[str, Tensor], what: str) -> list[ComparedRow]:
        """The network as safetensors, and that as ``zip -9``."""
        error = self.error(state)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.safetensors"
            write_safetensors(state, file)
            subprocess.run(["zip", "-9", "-q", "model.zip", file.name], cwd=folder, check=True)  # noqa: S607
            packed = (file.parent / "model.zip").stat().st_size
            size = file.stat().st_size
        return [
            ComparedRow(f"{what}, safetensors", size, error),
            ComparedRow(f"{what}, `zip -9`", packed, error),
        ]

    def int8(self, state: dict[str, Tensor]) -> ComparedRow:
        """PyTorch's own dynamic quantization: fully connected layers in int8, convolutions as they are."""
        network = self.network(state)
        with warnings.catch_warnings():
            # torch.ao.quantization is deprecated in favour of torchao, a package of its own.
            warnings.simplefilter("ignore")
            small = torch.ao.quantization.quantize_dynamic(network.eval(), {nn.Linear}, dtype=torch.qint8)
            buffer = io.BytesIO()
            torch.save(small.state_dict(), buffer)
            error = evaluate(small, self.images.test_batches()).error_percent
        return ComparedRow("float32 → int8, PyTorch", buffer.tell(), error)

    def nncodec(self, state: dict[str, Tensor], what: str) -> ComparedRow:
        """NNCodec at its default settings.

        Raises:
            ImportError: where it is not installed.
        """
        with _without_what_coding_needs_not():
            codec = importlib.import_module("nncodec.nn")
        arrays = {name: np.ascontiguousarray(t.numpy(), dtype=np.float32) for name, t in state.items()}
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            coded = bytes(codec.encode(arrays, {"results": folder, "verbose": False}))
            decoded = codec.decode(bytearray(coded), {"verbose": False})
        back = {name: torch.from_numpy(np.array(decoded[name])).reshape(state[name].shape) for name in state}
        return ComparedRow(f"{what} → NNCodec", len(coded), self.error(back))

    def network(self, state: dict[str, Tensor]) -> nn.Module:
        """The network with these weights."""
        network: nn.Module = self.model.create()
        network.load_state_dict(state)
        return network

    def error(self, state: dict[str, Tensor]) -> float:
        """Top-1 error of these weights on the test images, percent."""
        return evaluate(self.network(state), self.images.test_batches()).error_percent


class _Anything(types.ModuleType):
    """A module that has every name, and in which none of them does anything."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Absent:
    """Finds :class:`_Anything` for packages that are not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if not f"{name}.".startswith(tuple(f"{unused}." for unused in _UNUSED_BY_CODING)):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Anything(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


@contextlib.contextmanager
def _without_what_coding_needs_not() -> Iterator[None]:
    finder = _Absent()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


if __name__ == "__main__":
    sys.exit(main())
