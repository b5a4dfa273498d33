"""What an epoch of LeNet-300-100 on MNIST costs through the project, against a bare loop on tensors.

- ``bare``: a PyTorch loop that indexes two tensors in memory, and nothing else;
- ``project``: the ``fit`` phase of ``featherweight run``, with its progress, validation and a checkpoint
  after every epoch; the same network, optimizer, batch size and number of images.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from common import median_ratio, parser, write_json
from featherweight.cli.training_options import silence_lightning
from featherweight.data import MNIST
from featherweight.models import LeNet300
from featherweight.training.phases import train_phase
from featherweight.training.spec import ClassSpec, Phase, RunSpec

OPTIMIZER = {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}


def bare(images: torch.Tensor, labels: torch.Tensor, batch_size: int, epochs: int) -> None:
    """Train with as little as it takes."""
    network = LeNet300()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, **OPTIMIZER)
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for start in range(0, len(images), batch_size):
            chosen = order[start : start + batch_size]
            loss = cross_entropy(network(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def project(data: MNIST, epochs: int) -> None:
    """Train as ``featherweight run`` does."""
    spec = RunSpec(
        name="epoch",
        model=ClassSpec("featherweight.models.LeNet300"),
        data=ClassSpec("featherweight.data.MNIST"),
        optimizer=ClassSpec("torch.optim.SGD", OPTIMIZER),
        fit=Phase(epochs=epochs, lr=0.01),
    )
    with tempfile.TemporaryDirectory() as folder:
        train_phase("fit", spec, LeNet300(), data, Path(folder) / "fit.ckpt")


def main() -> None:
    """Time both in turn and print seconds an epoch."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--batch-size", type=int, default=128)
    options.add_argument("--epochs", type=int, default=3, help="epochs a timing")
    options.add_argument("--threads", type=int, default=1)
    options.set_defaults(rounds=5)
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    silence_lightning()
    data = MNIST(batch_size=args.batch_size, validation_split=5000)
    images, labels = data.splits.train
    pixels = (images.float() / 255 - data.mean[0]) / data.std[0]
    data.train_batches(), data.validation_batches()  # made before the clock runs, like `pixels`

    seconds: dict[str, list[float]] = {"bare": [], "project": []}
    for _ in range(args.rounds):
        for name in seconds:
            began = time.perf_counter()
            if name == "bare":
                bare(pixels, labels, args.batch_size, args.epochs)
            else:
                project(data, args.epochs)
            seconds[name].append((time.perf_counter() - began) / args.epochs)
    ratio = median_ratio(seconds, "project", "bare")
    figures: dict[str, Any] = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"LeNet-300-100, {len(images):,} images, batch {args.batch_size}, {args.threads} thread(s)")
    for name, value in figures.items():
        print(f"  {name:<8}{value:8.3f} s an epoch")
    print(f"  the project takes {ratio:.2f} times the bare loop")
    write_json(args.json, {"seconds": figures, "ratio": ratio})


if __name__ == "__main__":
    main()
