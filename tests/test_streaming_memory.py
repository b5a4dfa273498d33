"""A checkpoint goes through compress and decompress without ever being in memory as a whole."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import featherweight as fw
from featherweight.interop.safetensors import write_safetensors
from featherweight.lazy import LazyTensors, TensorSpec

MIB = 1 << 20
TENSORS, TENSOR_BYTES = 32, 16 * MIB
SHAPE = (1024, TENSOR_BYTES // 4096)

#: Runs the command line on a small checkpoint, so that everything is imported and compiled, then on the large
#: one, and prints by how many bytes that has raised the peak of resident memory.
SCRIPT = """
import sys
from pathlib import Path
from featherweight.cli import main

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

folder = Path(sys.argv[1])
peaks = []
for name in ("small", "large"):
    source, fwt, back = (str(folder / (name + suffix)) for suffix in sys.argv[2:5])
    assert main(["compress", source, "-o", fwt, "--recipe", str(folder / "recipe.yaml"), "--quiet"]) == 0
    assert main(["decompress", fwt, "-o", back, "--quiet"]) == 0
    peaks.append(peak())
print(peaks[1] - peaks[0])
"""


class RandomTensors(LazyTensors[torch.Tensor]):
    def __init__(self, shape, count):
        super().__init__({f"layers.{i:02}": TensorSpec("float32", shape) for i in range(count)})

    def __getitem__(self, name):
        generator = torch.Generator().manual_seed(int(name[-2:]))
        return torch.rand(self.specs[name].shape, generator=generator)


@pytest.mark.timeout(900)  # half a gigabyte is written, read and written
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc to know the peak")
def test_memory_stays_bounded(tmp_path):
    write_safetensors(RandomTensors((64, 64), TENSORS), tmp_path / "small.safetensors")
    write_safetensors(RandomTensors(SHAPE, TENSORS), tmp_path / "large.safetensors")
    # Some tensors shared, after a threshold over all of them; the others raw, so that the file is large too.
    prune = fw.Prune(sparsity=0.5, scope="global")
    fw.Recipe((fw.Rule("layers.0[0-3]", prune, fw.Quantize(bits=3)),)).save(tmp_path / "recipe.yaml")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), ".safetensors", ".fwt", "-back.safetensors"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    growth = int(done.stdout.splitlines()[-1])
    # A tensor needs about 15 times its size while it is pruned and clustered, and the allocator keeps some.
    assert growth < 24 * TENSOR_BYTES < TENSORS * TENSOR_BYTES
    size = (tmp_path / "large.safetensors").stat().st_size
    assert (tmp_path / "large-back.safetensors").stat().st_size == size
