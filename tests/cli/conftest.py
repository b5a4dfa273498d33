import numpy as np
import pytest
import torch

from featherweight.cli import main
from featherweight.fileformat import write_file
from featherweight.tensors import Alias, QuantizedTensor, RawTensor


@pytest.fixture
def checkpoint(tmp_path):
    """A small network's state dict as ``torch.save`` writes it, with a tied weight and an integer buffer."""
    torch.manual_seed(0)
    state = {
        "conv.weight": torch.randn(4, 3, 3, 3),
        "conv.bias": torch.randn(4),
        "fc.weight": torch.randn(20, 30),
        "steps": torch.tensor(5),
    }
    state["again.weight"] = state["fc.weight"]
    path = tmp_path / "model.pt"
    torch.save(state, path)
    return path


@pytest.fixture
def small_file(tmp_path):
    """A ``.fwt`` file with a quantized, a raw and a tied tensor."""
    indices = np.random.default_rng(0).integers(0, 4, (20, 30)).astype(np.uint8)
    tensors = {
        "fc.weight": QuantizedTensor(indices, np.array([0, -1, 1, 2], np.float32)),
        "fc.bias": RawTensor("float32", (2,), np.frombuffer(np.float32([3, 4]).tobytes(), np.uint8)),
        "again.weight": Alias("fc.weight"),
    }
    path = tmp_path / "small.fwt"
    write_file(path, tensors, coder="huffman", metadata={"source": "a test"})
    return path


@pytest.fixture
def command(capsys):
    """Run the command line in this process: ``code, stdout, stderr = command("verify", path)``."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
