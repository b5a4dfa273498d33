"""Bits chosen for each tensor beside the same bits everywhere, at equal bytes of the file.

A finished run's network is quantized after training: once with the same bits everywhere, and for the bytes
of that file with ``bits: auto`` by each sensitivity. Errors are of the validation split; ``--test`` adds
those of the test set, to be read once, when all is chosen.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

import featherweight as fw
from common import parser, write_json
from featherweight.interop.checkpoints import read_checkpoint
from featherweight.recipe import SENSITIVITIES
from featherweight.training.calibration import first_batches
from featherweight.training.evaluate import evaluate
from featherweight.training.spec import RunSpec

EVERYWHERE = "everywhere"


@dataclass
class Subject:
    """A trained network, its data, and what is quantized of it."""

    network: torch.nn.Module
    spec: RunSpec
    data: Any
    calibration: list[tuple[torch.Tensor, torch.Tensor]]
    match: str
    images: int


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("recipe", type=Path, help="run file: the network and its data")
    options.add_argument("weights", type=Path, help="its weights")
    options.add_argument("--match", default="*.weight", help="what is quantized")
    options.add_argument("--bits", type=int, nargs="+", default=[2, 3, 4])
    options.add_argument("--sensitivity", nargs="+", default=list(SENSITIVITIES), choices=SENSITIVITIES)
    options.add_argument("--init", default="linear", help="of k-means")
    options.add_argument("--images", type=int, default=10**9, help="validation images at most")
    options.add_argument("--test", action="store_true", help="errors of the test set, too")
    args = options.parse_args()
    torch.set_num_threads(1)
    subject = load(args)
    print(f"float: {errors(subject, subject.network, test=args.test)}")
    rows = []
    for bits in args.bits:
        same = fw.Recipe(
            (fw.Rule(args.match, quantize=fw.Quantize(bits=bits, init=args.init)),), fw.Code("huffman")
        )
        rows.append(measure(subject, f"{bits} bits {EVERYWHERE}", same, test=args.test))
        size = rows[-1]["bytes"]
        for how in args.sensitivity:
            auto = fw.Quantize(bits="auto", init=args.init)
            budget = fw.Budget(size=size, sensitivity=how)
            recipe = fw.Recipe((fw.Rule(args.match, quantize=auto),), fw.Code("huffman"), budget)
            data = {} if how == "weights" else {"data": subject.calibration, "loss": cross_entropy}
            chosen = fw.choose_bits(subject.network, recipe, **data)
            rows.append(measure(subject, f"auto, {how}", chosen, test=args.test))
    write_json(args.json, {"rows": rows})


def load(args: Any) -> Subject:
    """The network, its validation images, and 1,024 training images that judge errors."""
    spec = RunSpec.load(args.recipe)
    network = spec.model.create()
    network.load_state_dict(read_checkpoint(args.weights), strict=False)
    data = spec.data.create()
    return Subject(network.eval(), spec, data, first_batches(data, 1024), args.match, args.images)


def measure(subject: Subject, name: str, recipe: fw.Recipe, *, test: bool) -> dict[str, Any]:
    """Bytes of the file and errors of the network in it."""
    network = subject.spec.model.create()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.fwt"
        size = fw.save_file(fw.compress(subject.network, recipe), path, coder=recipe.code.coder)
        fw.load_model(network, path)
    row = {"name": name, "bytes": size, **errors(subject, network, test=test), "bits": recipe.bits}
    print(row, flush=True)
    return row


def errors(subject: Subject, network: torch.nn.Module, *, test: bool) -> dict[str, float]:
    """Errors in percent, and the loss on the validation split."""
    batches, seen = [], 0
    for batch in subject.data.validation_batches():
        batches.append(batch)
        seen += len(batch[1])
        if seen >= subject.images:
            break
    found = evaluate(network, batches)
    result = {"validation_error": found.error_percent, "validation_loss": found.loss}
    if test:
        result["test_error"] = evaluate(network, subject.data.test_batches()).error_percent
    return result


if __name__ == "__main__":
    main()
