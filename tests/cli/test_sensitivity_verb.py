"""``featherweight sensitivity`` on digits, a kill in the middle included."""

from __future__ import annotations

import csv
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.filterwarnings(text)
    for text in (
        "ignore:.*does not have many workers",  # the batches are in memory
        "ignore:.*LeafSpec.*is deprecated",  # Lightning's own call of PyTorch
        "ignore:The number of training batches",  # fewer than a logging interval
        "ignore:.*torch.jit.*is deprecated",
    )
]

RUN = {
    "name": "small",
    "model": {"class_path": "featherweight.models.LeNet300"},
    "data": {"class_path": "featherweight.data.Digits", "init_args": {"batch_size": 128}},
    "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}},
    "fit": {"epochs": 1, "lr": 0.05},
}
FILES = [
    "fit.safetensors",
    "points.jsonl",
    "pruning-dark.png",
    "pruning-dark.svg",
    "pruning-light.png",
    "pruning-light.svg",
    "sensitivity.csv",
    "sensitivity.json",
]


@pytest.fixture(autouse=True)
def as_they_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Threads, loggers and the working directory."""
    threads = torch.get_num_threads()
    quiet = {
        name: logging.getLogger(name).level for name in ("lightning", "lightning.pytorch", "lightning.fabric")
    }
    monkeypatch.chdir(tmp_path)
    yield
    torch.set_num_threads(threads)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    spec = {**RUN, "threads": 1}
    path.write_text(yaml.safe_dump(spec))
    return path


def test_it_trains_measures_writes_and_tells(command, config):
    arguments = (
        "sensitivity",
        "--config",
        config,
        "--sparsities",
        "0.5,0.98",
        "--epochs",
        "0,1",
        "--jobs",
        1,
    )
    code, out, err = command(*arguments, "--limit-batches", 2, "--layers", "fc1,fc3")
    assert code == 0, err
    folder = Path("sensitivity/small")
    assert sorted(path.name for path in folder.iterdir()) == FILES
    with (folder / "sensitivity.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["layer"], row["sparsity"], row["epochs"]) for row in rows] == [
        (layer, sparsity, epochs)
        for layer in ("fc1.weight", "fc3.weight", "(network)")
        for sparsity in ("0.5", "0.98")
        for epochs in ("0", "1")
    ]
    assert "whole network" in out
    assert "validation images of digits" in out
    assert "fit" in err  # a line an epoch, as no terminal is there


def test_as_json_and_quietly_from_weights_given_and_a_sweep_file(command, config, tmp_path):
    assert command("sensitivity", "-c", config, "--sparsities", "0.5", "-j", 1, "-o", "first")[0] == 0
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("bits: [2, 4]\nsparsities: [0.9]\nlayers: [fc2]\n")
    code, out, err = command(
        *("sensitivity", "-c", config, "--weights", "first", "--sweep", sweep, "--bits", "3"),
        *("--test", "--json", "--quiet", "-j", 1, "-o", "second"),
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["split"] == "test"
    assert found["dataset"] == "digits"
    assert [(row["layer"], row["bits"], row["sparsity"]) for row in found["rows"]] == [
        ("fc2.weight", 3, None)
    ]
    assert found == json.loads(Path("second/sensitivity.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--sparsities", "half"), 2, "expected values with commas between them, got 'half'"),
        (("--jobs", "0"), 2, "--jobs must be at least 1"),
        (("--backend", "threads"), 2, "invalid choice"),
        (("--sparsities", "1"), 1, "sparsities are fractions"),
        (("--layers", "conv1"), 1, "'conv1' is no weight of the network"),
        (("--importances", "nonsense"), 1, "unknown importance 'nonsense'"),
        (("--weights", "nowhere.safetensors"), 1, "nowhere.safetensors"),
        (("--sweep", "nowhere.yaml"), 1, "nowhere.yaml: cannot be read"),
        (("-o", "small.yaml"), 1, "small.yaml: exists and is no directory"),
        (("-o", "."), 1, "not empty; choose another directory"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(command, config, arguments, code, message):
    found, out, err = command("sensitivity", "--config", config, *arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert code == 2 or err.count("\n") == 1
    assert sorted(path.name for path in Path().iterdir()) == ["small.yaml"]


def test_a_sweep_file_with_a_mistake_is_named(command, config, tmp_path):
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("sparsity: [0.5]\n")
    code, _, err = command("sensitivity", "-c", config, "--sweep", sweep)
    assert code == 1
    assert "sweep.yaml: unknown key 'sparsity'; did you mean 'sparsities'?" in err


def test_another_sweep_in_the_same_directory_needs_force(command, config):
    arguments = ("sensitivity", "-c", config, "--sparsities", "0.5", "-j", 1, "--quiet")
    assert command(*arguments)[0] == 0
    code, _, err = command(*arguments, "--lr", 0.5)
    assert code == 1
    assert "another lr (null, now 0.5)" in err
    assert "--force" in err
    assert command(*arguments, "--lr", 0.5, "--force")[0] == 0


@pytest.mark.timeout(600)  # it starts a process, which takes long where the cores are busy
def test_killed_in_the_middle_it_goes_on_and_ends_with_the_same_results(command, config):
    arguments = ("sensitivity", "-c", str(config), "--layers", "fc1,fc2", "--seeds", "0,1", "--epochs", "0,2")
    grid = ("--sparsities", "0.5,0.8,0.9,0.95,0.98", "--quiet")
    code, _, err = command(*arguments, *grid, "-j", 1, "-o", "whole")
    assert (code, err) == (0, "")

    journal = Path("killed/points.jsonl")
    code = "import sys; from featherweight.cli import main; sys.exit(main())"
    program = [sys.executable, "-c", code, *arguments, *grid, "-j", "1", "-o", "killed"]
    with subprocess.Popen(program, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        deadline = time.monotonic() + 240
        while not (journal.exists() and journal.read_bytes().count(b"\n") >= 5):
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    done = journal.read_text().splitlines()
    assert 5 <= len(done) < 32

    assert command(*arguments, *grid, "-j", 1, "-o", "killed")[0] == 0
    lines = journal.read_text().splitlines()
    assert lines[: len(done) - 1] == done[:-1]
    keys = [json.loads(line).get("point") for line in lines[2:]]
    assert len(keys) == len(set(keys)) == 30  # none was measured twice
    for name in ("sensitivity.csv", "sensitivity.json", "pruning-light.svg", "fit.safetensors"):
        assert Path("killed", name).read_bytes() == Path("whole", name).read_bytes(), name
