"""Two processes with half a batch each end with what one process with the whole batch ends with."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import featherweight as fw

STEPS = 12
RECIPE = fw.Recipe(
    rules=(
        fw.Rule("0.weight", fw.Prune(sparsity=0.7)),
        fw.Rule("2.weight", fw.Prune(sparsity=0.5), fw.Quantize(bits=3)),
    )
)


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 6))


def train(model, network, rows):
    """Prune after two steps and share after four, with momentum throughout."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)
    generator = torch.Generator().manual_seed(1)
    constraints = None
    for step in range(STEPS):
        if step == 2:
            fw.prune(model, RECIPE, optimizer=optimizer)
        if step == 4:
            constraints = fw.share(model, RECIPE, optimizer=optimizer)
        inputs = torch.randn(16, 12, generator=generator)
        targets = torch.randint(0, 6, (16,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(network(inputs[rows]), targets[rows]).backward()
        optimizer.step()
    return {**model.state_dict(), "indices": torch.from_numpy(constraints.quantized("2.weight").indices)}


def train_in_company(rank, directory):
    meeting = f"file://{Path(directory) / 'meeting'}"
    dist.init_process_group("gloo", meeting, rank=rank, world_size=2, timeout=timedelta(seconds=120))
    model = make_model()
    result = train(model, DistributedDataParallel(model), slice(8 * rank, 8 * rank + 8))
    torch.save(result, Path(directory) / f"{rank}.pt")
    dist.destroy_process_group()


def train_in_company_as_second(_, directory):
    train_in_company(1, directory)


def test_two_processes_end_like_one(tmp_path):
    other = torch.multiprocessing.spawn(train_in_company_as_second, args=(str(tmp_path),), join=False)
    train_in_company(0, str(tmp_path))
    assert other.join(timeout=120)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    model = make_model()
    alone = train(model, model, slice(None))
    assert set(first) == set(second) == set(alone)
    for name, expected in alone.items():
        assert first[name].numpy().tobytes() == second[name].numpy().tobytes(), name
        torch.testing.assert_close(first[name], expected, rtol=0, atol=1e-6)
    assert torch.equal(first["0.weight"] != 0, alone["0.weight"] != 0)
    assert int((alone["0.weight"] == 0).sum()) == round(0.7 * 240)
    assert torch.equal(first["indices"], alone["indices"])
    for cluster in np.unique(first["indices"].numpy()):
        values = first["2.weight"].numpy()[first["indices"].numpy() == cluster]
        assert np.unique(values).size == 1
    assert not first["2.weight"][first["indices"] == 0].any()
