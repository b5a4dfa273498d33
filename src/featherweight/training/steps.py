"""What each step of a finished run gave, measured from the files in its directory."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file as load_safetensors

from featherweight.analysis.steps_table import Ablation, Step
from featherweight.compression import encode_state
from featherweight.errors import RecipeError
from featherweight.files import load_model, load_state, save_file
from featherweight.strict import read_mapping
from featherweight.tensors import QuantizedTensor
from featherweight.training.evaluate import evaluate
from featherweight.training.run import dense_size
from featherweight.training.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The steps of coding, from the plainest to the one that the paper takes.
PLAIN_CODERS = ("fixed", "huffman")


def ablation_of(directory: Path, about: str = "") -> Ablation:
    """Take a finished run apart: dense, pruned, shared, and its tensors under one coder after the other.

    Args:
        directory: of the run.
        about: a sentence on it.

    Raises:
        RecipeError: where the directory holds no finished run, or its data have no validation images.
    """
    file = next(iter(directory.glob("*.fwt")), None)
    if file is None or not (directory / "run.yaml").is_file():
        raise RecipeError(f"{directory}: holds no finished run; featherweight run --resume {directory}")
    spec = RunSpec.load(directory / "run.yaml")
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    batches = spec.data.create().validation_batches()
    if not len(batches):
        raise RecipeError(f"{directory}: its data have no validation_split to measure errors on")
    seconds: Mapping[str, float] = json.loads((directory / "state.json").read_text())["seconds"]
    network = spec.model.create()
    steps: list[Step] = []
    for phase in spec.phases():
        load_state(network, load_safetensors(directory / f"{phase}.safetensors"), phase)
        error = evaluate(network, batches).error_percent
        if phase == "fit":
            size, what = dense_size(network), "dense, float32"
        elif phase == "prune":
            size, what = (
                _size(network.state_dict(), "huffman")[0],
                "pruned; float32 values, without the zeros",
            )
        else:
            continue
        steps.append(Step(what, size, error, seconds.get(phase, 0.0)))
    load_model(network, file)
    error = evaluate(network, batches).error_percent
    shared = "share" in spec.phases()
    state = load_safetensors(directory / "share.safetensors") if shared else network.state_dict()
    steps += _coded(spec, state, file, error, seconds.get("share", 0.0))
    tested = directory / "result.json"
    return Ablation(
        spec.name,
        about,
        batches.num_images,
        tuple(steps),
        steps[0].bytes,
        read_mapping(tested)["error_percent"] if tested.exists() else None,
    )


def _coded(
    spec: RunSpec, state: Mapping[str, torch.Tensor], file: Path, error: float, seconds: float
) -> list[Step]:
    """The shared network by one coder after the other, and at last the run's own file."""
    network = spec.model.create()
    load_state(network, state, str(file))
    tensors = encode_state(network, replace(spec.recipe, units=()))
    steps: list[Step] = []
    coder = spec.recipe.code.coder
    for plain in PLAIN_CODERS:
        size, took = _size(tensors, plain)
        first = not steps
        what = f"{'shared and trained; ' if first and seconds else ''}coder {plain}"
        if plain != coder or spec.recipe.units:
            steps.append(Step(what, size, error, took + (seconds if first else 0.0)))
    if spec.recipe.units and coder not in PLAIN_CODERS:
        size, took = _size(tensors, coder)
        steps.append(Step(f"coder {coder}", size, error, took))
    own = f"coder {coder}" + (", units in order" if spec.recipe.units else "")
    _, took = _size(tensors, coder)
    return [*steps, Step(f"{own}: the file", file.stat().st_size, error, took)]


def _size(tensors: Mapping[str, torch.Tensor | QuantizedTensor], coder: str) -> tuple[int, float]:
    """Bytes of a file of these tensors, all by one coder, and the seconds that writing it takes."""
    tensors = {
        n: replace(t, coder=coder) if isinstance(t, QuantizedTensor) else t for n, t in tensors.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        size = save_file(tensors, Path(folder) / "network.fwt", coder=coder)
        return size, time.perf_counter() - began
