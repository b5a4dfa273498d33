"""The integer arrays on which coders are compared: real networks, and two draws in which nothing is to find.

An input is the index arrays of a network with their codebooks, index 0 for zero and the others in ascending
order of value, as ``.fwt`` files hold them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from featherweight.data.root import resolve_data_root
from featherweight.fileformat import FileReader
from featherweight.interop.checkpoints import read_checkpoint
from featherweight.interop.net_file import LAYERS, read_net
from featherweight.tensors import QuantizedTensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_SEED = 0

#: Where ``featherweight run`` of the recipes of this project is asked to leave its files.
RESULTS = Path("results")

_RESNET20 = Path("pretrained/resnet20-12fca82f.th")
_SQUEEZENET = Path("pretrained/compressed_SqueezeNet.net")


@dataclass(frozen=True)
class Input:
    """Arrays that are coded one by one and counted together.

    Attributes:
        label: what tables call them.
        tensors: the arrays with their codebooks.
        source: where they come from.
    """

    label: str
    tensors: tuple[QuantizedTensor, ...]
    source: str

    @property
    def symbols(self) -> int:
        """Indices in all arrays."""
        return sum(tensor.indices.size for tensor in self.tensors)


def quantize(levels: NDArray[Any]) -> QuantizedTensor:
    """Integer levels as indices and a codebook of those that occur, and of zero."""
    least = int(levels.min())
    occurs = np.bincount(levels.reshape(-1).astype(np.int32) - least) > 0
    values = np.flatnonzero(occurs) + least
    values = values[values != 0]
    place = np.zeros(occurs.size, np.uint8 if values.size < 256 else np.uint16)
    place[values - least] = np.arange(1, values.size + 1)
    return QuantizedTensor(
        place[levels.astype(np.int32) - least], np.concatenate([[0], values]).astype(np.float32)
    )


def signed_levels(tensor: QuantizedTensor) -> NDArray[np.int32]:
    """The same array as coders of integers around zero want it: the rank of each value, negative below 0."""
    order = np.argsort(tensor.codebook, kind="stable")
    ranks = np.empty(order.size, np.int32)
    ranks[order] = np.arange(order.size, dtype=np.int32)
    return np.ascontiguousarray((ranks - ranks[0])[tensor.indices])


# -- networks --------------------------------------------------------------------------------------


def runs(paths: list[Path], quick: bool, scratch: Path) -> Iterator[Input]:
    """(a) Networks that ``featherweight run`` has pruned and shared: those given, found, or made here."""
    found = [file for path in paths for file in (sorted(path.glob("*.fwt")) if path.is_dir() else [path])]
    files_there = found or sorted(RESULTS.glob("*.fwt"))
    if files_there:
        for file in files_there:
            yield Input(f"a: {file.stem}", _quantized(file), str(file))
        return
    for model, match in (("LeNet300", "fc*.weight"), ("LeNet5", "*.weight")):
        file = _short_run(model, match, quick, scratch / model)
        yield Input(f"a: {model}, short run", _quantized(file), "a short run on scikit-learn's digits")


def _quantized(path: Path) -> tuple[QuantizedTensor, ...]:
    with FileReader(path) as reader:
        names = [name for name in reader.names if reader.info(name).quantized]
        tensors = [reader.read(name) for name in names if reader.info(name).alias_of is None]
    return tuple(tensor for tensor in tensors if isinstance(tensor, QuantizedTensor))


def _short_run(model: str, match: str, quick: bool, folder: Path) -> Path:
    """The demo of this package with another network, and with few epochs if ``quick``."""
    from featherweight.cli.training_options import silence_lightning  # only here: it imports Lightning
    from featherweight.training.run import Run
    from featherweight.training.spec import RunSpec

    silence_lightning()
    recipe = yaml.safe_load((files("featherweight") / "recipes" / "demo.yaml").read_text(encoding="utf-8"))
    recipe["name"] = model
    recipe["model"] = {"class_path": f"featherweight.models.{model}"}
    rule = recipe["recipe"]["rules"][0]
    rule["match"] = match
    if quick:
        for phase in ("fit", "prune", "share"):
            recipe[phase]["epochs"] = 1
        rule["prune"]["schedule"]["epochs"] = 1
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    job = Run.create(RunSpec.load(folder / "run.yaml"), folder / "run")
    job.execute()
    return job.file


def data_file(root: str | None, relative: Path) -> Path | None:
    """A file under the folder of data, if there is such a folder and file."""
    path = resolve_data_root(root) / relative
    return path if path.exists() else None


def resnet20(path: Path) -> Input:
    """(b) Every convolution rounded to steps of a third of its standard deviation."""
    weights = [w.numpy() for w in read_checkpoint(path).values() if w.ndim == 4]
    tensors = tuple(quantize(np.rint(w / (w.std() / 3)).astype(np.int32)) for w in weights)
    return Input("b: ResNet-20, σ/3", tensors, path.name)


def squeezenet(path: Path) -> Input:
    """(c) The codes of the file that the authors of Deep Compression published."""
    stored = read_net(path, LAYERS["squeezenet"]).values()
    tensors = tuple(tensor for tensor in stored if isinstance(tensor, QuantizedTensor))
    return Input("c: SqueezeNet of Han et al.", tensors, path.name)


# -- independent draws -----------------------------------------------------------------------------


def sparse_layer(shape: tuple[int, int]) -> Input:
    """(d) A pruned layer, 9 % nonzero, with 14 values in a bell around zero: 4 bits with the zero."""
    generator = np.random.default_rng(_SEED)
    kept = generator.random(shape, np.float32) < 0.09
    steps = np.rint(generator.normal(scale=3.0, size=int(kept.sum()))).clip(-7, 7).astype(np.int8)
    steps[steps == 0] = 1
    levels = np.zeros(shape, np.int8)
    levels[kept] = steps
    return Input("d: independent, 9 %, 4 bits", (quantize(levels),), f"{shape[0]} x {shape[1]}")


def discretised_gaussian(count: int) -> Input:
    """(e) Weights or activations without pruning, four steps a standard deviation."""
    generator = np.random.default_rng(_SEED)
    levels = np.rint(generator.standard_normal(count, np.float32) * 4).clip(-32, 31).astype(np.int8)
    return Input("e: Gaussian, σ/4", (quantize(levels.reshape(-1, 1024)),), f"{count} symbols")


def all_inputs(
    letters: str, given: list[Path], root: str | None, quick: bool, scratch: Path
) -> Iterator[Input | str]:
    """Every input of these letters, one after the other, or a line that says why one is left out."""
    if "a" in letters:
        yield from runs(given, quick, scratch)
    for letter, relative, make in (("b", _RESNET20, resnet20), ("c", _SQUEEZENET, squeezenet)):
        if letter in letters:
            path = data_file(root, relative)
            absent = f"({letter}) left out: no {relative}; set FEATHERWEIGHT_DATA or --data-root"
            yield make(path) if path else absent
    fewer = 256 if quick else 1
    if "d" in letters:
        yield sparse_layer((9216 // fewer, 4096))
    if "e" in letters:
        yield discretised_gaussian((1 << 25) // fewer)
