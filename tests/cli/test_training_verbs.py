"""``run``, ``demo`` and the verbs of Lightning's command line."""

from __future__ import annotations

import csv
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml

from featherweight import load_file
from featherweight.cli import main
from featherweight.cli.dispatch import FAILED
from featherweight.models import LeNet300

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RECIPES = Path(__file__).parents[2] / "recipes" / "lightning"

pytestmark = [
    pytest.mark.filterwarnings(text)
    for text in (
        "ignore:.*does not have many workers",  # the batches are in memory
        "ignore:.*LeafSpec.*is deprecated",  # Lightning's own call of PyTorch
        "ignore:The number of training batches",  # fewer than a logging interval
        "ignore:.*Checkpoint directory .* exists and is not empty",
        "ignore:Be aware that when using `ckpt_path`",
        "ignore:The dirpath has changed",  # every run logs to a version of its own
        "ignore:.*torch.jit.*is deprecated",
    )
]


@pytest.fixture(autouse=True, scope="module")
def without_lightnings_deprecations() -> Iterator[None]:
    """Lightning 2.6 calls jsonargparse in a way that 4.53 deprecates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
        yield


@pytest.fixture(autouse=True)
def one_thread_and_the_loggers_as_they_were(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    threads = torch.get_num_threads()
    quiet = {name: logging.getLogger(name).level for name in ("lightning", "lightning.pytorch")}
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["featherweight", "something"])
    yield
    torch.set_num_threads(threads)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)


def changed(data: dict[str, Any], *edits: Any) -> dict[str, Any]:
    """A copy with values set by dotted path."""
    data = json.loads(json.dumps(data))
    for path, value in edits:
        *parents, last = path.split(".")
        inner: Any = data
        for key in parents:
            inner = inner[int(key) if key.isdigit() else key]
        inner[last] = value
    return data


# -- run -----------------------------------------------------------------------------------------------

RUN: dict[str, Any] = {
    "model": {"class_path": "featherweight.models.LeNet300", "init_args": {"dropout": 0.2}},
    "data": {"class_path": "featherweight.data.Digits", "init_args": {"batch_size": 128, "shift": 1}},
    "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}},
    "fit": {"epochs": 3, "lr": 0.05},
    "prune": {"epochs": 4, "lr": 0.05},
    "share": {"epochs": 3, "lr": 0.001, "optimizer": {"class_path": "torch.optim.Adam"}},
    "recipe": {
        "rules": [
            {
                "match": "fc*.weight",
                "prune": {"sparsity": 0.9, "schedule": {"kind": "cubic", "epochs": 3, "every_steps": 4}},
                "quantize": {"bits": 3},
            }
        ]
    },
    "threads": 1,
}


def write(path: Path, data: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


#: Sends itself a signal in the middle of a phase's second epoch, whatever the machine's speed.
STOPPED = """
import os, signal, sys
from featherweight.cli import main
from featherweight.training.phases import EpochCheckpoint

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
phase, number, *arguments = sys.argv[1:]

def stop(self, trainer, *_):
    if self.path.stem == phase and trainer.current_epoch == 1:
        os.kill(os.getpid(), int(number))

EpochCheckpoint.on_train_batch_end = stop
sys.exit(main(arguments))
"""


def run_stopped(phase: str, number: signal.Signals, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", STOPPED, phase, str(int(number)), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(["run", str(write(folder / "lenet.yaml", RUN)), "-o", str(folder / "run"), "-q"]) == 0
    return (folder / "run" / "lenet.fwt").read_bytes()


def test_a_process_stopped_in_each_phase_ends_with_the_same_bytes(
    tmp_path: Path, uninterrupted: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "lenet.yaml", RUN)
    directory = tmp_path / "run"
    arguments = ["run", "lenet.yaml", "-o", "run"]
    for phase in ("fit", "prune", "share"):
        killed = run_stopped(phase, signal.SIGKILL, *arguments)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert (directory / "checkpoints" / f"{phase}.ckpt").exists()
        assert not (directory / f"{phase}.safetensors").exists()
        assert not (directory / "lenet.fwt").exists()
        arguments = ["run", "--resume", "run", "--quiet"]
    # Once more, with Ctrl-C: one line that says how to go on.
    stopped = run_stopped("share", signal.SIGINT, *arguments)
    assert stopped.returncode == FAILED
    assert stopped.stdout == ""
    assert stopped.stderr == "featherweight: stopped; featherweight run --resume run goes on\n"

    assert main(["run", "--resume", "run"]) == 0
    assert (directory / "lenet.fwt").read_bytes() == uninterrupted
    assert json.loads((directory / "result.json").read_text())["bytes"] == len(uninterrupted)
    told = capsys.readouterr()
    assert told.err.splitlines()[-1].split()[:2] == ["share", "3/3"]
    assert "smaller" in told.out
    assert "fc1" in told.out


def test_without_the_test_validation_images_are_tried_and_the_test_may_follow(
    tmp_path: Path, uninterrupted: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "lenet.yaml", RUN)
    assert main(["run", "lenet.yaml", "-o", "run", "-q", "--no-test"]) == 0
    told = capsys.readouterr().out
    assert "validation images of digits" in told
    assert (
        "result  run/validation.json\nreport  run/report.html\ntest    featherweight run --resume run\n"
        in told
    )
    assert (tmp_path / "run" / "lenet.fwt").read_bytes() == uninterrupted
    assert not (tmp_path / "run" / "result.json").exists()
    assert main(["run", "--resume", "run", "-q"]) == 0
    assert "test images of digits" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "result.json").read_text())["bytes"] == len(uninterrupted)


MNIST = ("data", {"class_path": "featherweight.data.MNIST"})


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([("fti", {"epochs": 1})], "unknown key 'fti'; did you mean 'fit'?"),
        (
            [("recipe.rules.0.quantise", {})],
            "recipe.rules[0]: unknown key 'quantise'; did you mean 'quantize'?",
        ),
        (
            [("recipe.rules.0.match", "conv*")],
            "the rule for 'conv*' matches no tensor; there are: fc1.weight",
        ),
        ([("recipe.rules.0.quantize.bits", 0)], "bits must be between 1 and 8, got 0"),
        ([("recipe.rules.0.quantize.bits", 33)], "bits must be between 1 and 8, got 33"),
        ([("recipe.rules.0.prune.sparsity", 1.2)], "sparsity is a fraction between 0 and 1, got 1.2"),
        ([("model.class_path", "no.such.Net")], "class_path 'no.such.Net' cannot be imported"),
        ([("model.class_path", "featherweight.models.LeNet6")], "has no attribute 'LeNet6'"),
        ([("model.class_path", "LeNet300")], "class_path 'LeNet300' cannot be imported"),
        (
            [("model.class_path", "featherweight.data.Digits"), ("model.init_args", {})],
            "makes no torch.nn.Module",
        ),
        ([("model.init_args.droput", 1)], "unexpected keyword argument 'droput'; check init_args"),
        ([("model.init_args.dropout", 1.5)], "dropout probability has to be between 0 and 1, but got 1.5"),
        ([("model.init_args.in_features", 100)], "LeNet300 does not take images (1, 28, 28) of digits"),
        ([("model.init_args.num_classes", 5)], "must give logits (N, 10) for digits, it gives (N, 5)"),
        (
            [("data.class_path", "featherweight.models.LeNet5"), ("data.init_args", {})],
            "no featherweight.data.Im",
        ),
        ([("data.init_args.batch_size", 0)], "featherweight.data.Digits: batch sizes must be at least 1"),
        ([("optimizer.class_path", "torch.optim.SDG")], "'torch.optim.SDG' cannot be imported"),
        ([("optimizer.init_args.momentum", -1)], "torch.optim.SGD: Invalid momentum value: -1"),
        ([("share.optimizer.class_path", "torch.optim.Adamm")], "'torch.optim.Adamm' cannot be imported"),
        ([("share.optimizer.class_path", "collections.ChainMap")], "collections.ChainMap: "),
        ([("trainer", {"precisoin": 16})], "trainer: Trainer.__init__() got an unexpected keyword"),
        ([("trainer", {"accelerator": "abacus"})], "trainer: "),
        ([("trainer", {"max_epochs": 3})], "trainer: max_epochs is given by the phases; leave it out"),
        ([("fit.lr", 0)], "lr must be above 0, got 0"),
        ([("fit.epochs", "many")], "fit.epochs: expected a whole number, got 'many'"),
        ([("share.lr_schedule", "step")], "unknown lr_schedule 'step'; known: cosine, constant"),
        ([("name", "a/b")], "name must do as the name of a file, got 'a/b'"),
        ([("threads", 0)], "threads must be at least 1, got 0"),
        ([("model", None)], "model: expected a mapping, got nothing"),
        ([("recipe", "recipe.yaml")], "recipe.yaml: cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_run_file_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], edits: list[Any], message: str
) -> None:
    run_file = write(tmp_path / "lenet.yaml", changed(RUN, *edits))
    assert main(["run", str(run_file), "-o", "run"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert told.err.startswith("featherweight: error: ")
    assert message in told.err
    assert [p.name for p in tmp_path.iterdir()] == ["lenet.yaml"]


def test_missing_data_are_told_with_the_folder_they_belong_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: Any, **kwargs: Any) -> None:
        raise OSError("no network here")

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("urllib.request.OpenerDirector.open", offline)
    run_file = write(tmp_path / "lenet.yaml", changed(RUN, MNIST))
    before = os.environ.get("FEATHERWEIGHT_DATA")
    monkeypatch.setenv("FEATHERWEIGHT_DATA", before or "")
    assert main(["run", str(run_file), "-o", "run", "--data-root", str(tmp_path / "sets")]) == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("featherweight: error: ")
    assert str(tmp_path / "sets" / "mnist") in last
    assert not (tmp_path / "run").exists()


def test_directories_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_file = str(write(tmp_path / "lenet.yaml", RUN))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for arguments, message in (
        ([run_file, "-o", "full"], "full: exists and is not empty; choose another directory"),
        ([run_file, "-o", "full", "--force"], "full: exists and is not empty; choose another directory"),
        (["--resume", "full"], "full: holds no run to resume (run.yaml is missing)"),
        (["--resume", "absent"], "absent: holds no run to resume (run.yaml is missing)"),
        (["absent.yaml"], "absent.yaml: cannot be read: No such file or directory"),
        ([], "nothing to run; give a run file, or --resume DIR"),
    ):
        assert main(["run", *arguments]) in (1, 2)
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert message in told
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["notes.txt"]


def test_a_run_and_another_recipe_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {k: v for k, v in RUN.items() if k not in ("prune", "share")}
    run_file = str(write(tmp_path / "lenet.yaml", changed(short, ("fit.epochs", 1))))
    assert main(["run", run_file, "-o", "run", "-q"]) == 0
    assert main(["run", run_file, "-o", "run", "-q"]) == 1
    assert "--resume run goes on with it, --force starts it anew" in capsys.readouterr().err
    assert main(["run", run_file, "--resume", "run", "-q"]) == 0
    other = str(write(tmp_path / "other.yaml", RUN))
    assert main(["run", other, "--resume", "run"]) == 1
    assert "run: holds a run of another recipe" in capsys.readouterr().err
    assert main(["run", run_file, "-o", "run", "-q", "--force"]) == 0


def test_divergence_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_file = write(tmp_path / "lenet.yaml", changed(RUN, ("fit.lr", 1e10)))
    assert main(["run", str(run_file), "-o", "run", "-q"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "the weights are not finite" in told
    assert "lower its learning rate" in told


# -- Lightning's verbs ---------------------------------------------------------------------------------


def lightning_config(folder: Path, *edits: Any) -> dict[str, Any]:
    """The example of ``recipes``, on the digits, for four epochs, into ``folder``."""
    data = json.loads((RECIPES / "seed000.json").read_text())
    return changed(
        data,
        ("data.init_args.images.class_path", "featherweight.data.Digits"),
        ("trainer.min_epochs", 1),
        ("trainer.max_epochs", 4),
        ("trainer.default_root_dir", str(folder)),
        ("trainer.enable_progress_bar", False),
        ("trainer.enable_model_summary", False),
        ("trainer.log_every_n_steps", 1),
        ("trainer.callbacks.1.init_args.pruning_fn", "l1_unstructured"),
        ("trainer.callbacks.1.init_args.pruning_schedule.prune_every", 1),
        ("trainer.callbacks.2.init_args.epoch", 3),
        (
            "trainer.logger",
            {"class_path": "CSVLogger", "init_args": {"save_dir": str(folder), "name": "log"}},
        ),
        *edits,
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that ``featherweight fit`` made."""
    folder = tmp_path_factory.mktemp("fit")
    write(folder / "config.yaml", lightning_config(folder))
    assert main(["fit", "--config", str(folder / "config.yaml")]) == 0
    return folder


def checkpoint(folder: Path) -> Path:
    return next(folder.rglob("*.ckpt"))


def test_fit_prunes_shares_logs_and_saves(fitted: Path) -> None:
    log = fitted / "log" / "version_0"
    decoded = load_file(log / "model.fwt")
    weights = [decoded[f"fc{i}.weight"] for i in (1, 2, 3)]
    assert all(len(w.unique()) <= 64 for w in weights)
    assert sum(int((w == 0).sum()) for w in weights) / 266200 == pytest.approx(0.936, abs=1e-4)
    with (log / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(r["sparsity"]) for r in rows if r["sparsity"]] == pytest.approx(
        [share * 266200 / 266610 for share in (0.6, 0.84, 0.936, 0.936)], abs=1e-4
    )
    rates = [float(r["compression_rate_huffman"]) for r in rows if r["compression_rate_huffman"]]
    assert len(rates) == 1
    assert rates[0] > 25
    assert (log / "config.yaml").is_file()


def test_a_checkpoint_of_fit_loads_into_the_plain_network(fitted: Path) -> None:
    saved = torch.load(checkpoint(fitted), weights_only=True)
    assert str(LeNet300().load_state_dict(saved["state_dict"])) == "<All keys matched successfully>"


def printed(out: str, name: str) -> float:
    """The value of a metric in the table that Lightning prints."""
    line = next(line for line in out.splitlines() if name in line)
    return float(line.replace("│", " ").split()[-1])


def test_validate_and_test_evaluate_a_checkpoint(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", str(fitted / "config.yaml"), "--ckpt_path", str(checkpoint(fitted))]
    assert main(["validate", *arguments]) == 0
    validated = printed(capsys.readouterr().out, "val_accuracy")
    score = torch.load(checkpoint(fitted), weights_only=True)["callbacks"]
    best = next(v["best_model_score"] for k, v in score.items() if k.startswith("ModelCheckpoint"))
    assert validated == pytest.approx(float(best), abs=1e-6)
    assert main(["test", *arguments]) == 0
    tested = printed(capsys.readouterr().out, "test_accuracy")
    network = LeNet300()
    network.load_state_dict(torch.load(checkpoint(fitted), weights_only=True)["state_dict"])
    from featherweight.data import Digits

    right = sum(int((network(x).argmax(1) == y).sum()) for x, y in Digits().test_batches())
    assert tested == pytest.approx(right / 540, abs=1e-6)


def test_test_file_takes_the_configuration_of_fit(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = fitted / "log" / "version_0" / "model.fwt"
    assert main(["test-file", str(file), "--config", str(fitted / "config.yaml"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["examples"] == 540
    assert told["file_bytes"] == file.stat().st_size
    assert told["error_percent"] < 60


def test_fit_goes_on_from_a_checkpoint(fitted: Path, tmp_path: Path) -> None:
    keep_all = ("trainer.callbacks.0.init_args", {"save_top_k": -1, "filename": "{epoch}", "dirpath": "kept"})
    config = lightning_config(tmp_path, keep_all)
    assert main(["fit", "--config", str(write(tmp_path / "config.yaml", config))]) == 0
    whole = load_file(tmp_path / "log" / "version_0" / "model.fwt")
    arguments = ["--config", str(tmp_path / "config.yaml"), "--ckpt_path", "kept/epoch=1.ckpt"]
    assert main(["fit", *arguments]) == 0
    resumed = load_file(tmp_path / "log" / "version_1" / "model.fwt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("name", ["seed000.json", "lenet300-mnist.yaml"])
def test_the_recipes_parse_and_print(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(RECIPES / name), "--print_config"]) == 0
    told = capsys.readouterr()
    found = yaml.safe_load(told.out)
    assert found["trainer"]["max_epochs"] == 20
    assert found["model"]["init_args"]["network"]["class_path"] == "featherweight.models.LeNet300"
    pruning, quantization = (found["trainer"]["callbacks"][i]["init_args"] for i in (1, 2))
    assert (pruning["amount"], pruning["pruning_schedule"]["target_sparsity"]) == (0.6, 0.9)
    assert (quantization["bits"], quantization["epoch"], quantization["huffman_encode"]) == (6, 10, True)
    assert told.err == ""


def test_values_are_changed_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    config = str(RECIPES / "seed000.json")
    options = ["--trainer.max_epochs", "7", "--optimizer.init_args.lr=0.5"]
    assert main(["fit", "--config", config, *options, "--print_config"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert (found["trainer"]["max_epochs"], found["optimizer"]["init_args"]["lr"]) == (7, 0.5)


@pytest.mark.parametrize("verb", ["fit", "validate", "test"])
def test_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"usage: featherweight {verb} [-")
    assert "--config" in told.out
    assert "--ckpt_path" in told.out
    assert told.err == ""


PRUNING = "trainer.callbacks.1.init_args"


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([("trainer.max_epoch", 3)], "max_epoch"),
        ([("trainer.max_epochs", "many")], "max_epochs"),
        ([("trainer.precision", 7)], "precision"),
        ([(f"{PRUNING}.amuont", 0.5)], "amuont"),
        ([(f"{PRUNING}.amount", 1.5)], "amount is a count, or a fraction between 0 and 1, got 1.5"),
        ([(f"{PRUNING}.pruning_fn", "l3")], "unknown pruning_fn 'l3'; known: l1_threshold"),
        ([("trainer.callbacks.2.init_args.bits", 33)], "bits must be between 1 and 8, got 33"),
        ([("trainer.callbacks.2.init_args.filter_layers", ["Conv2d"]),
          ("trainer.callbacks.2.init_args.epoch", 0)], "no parameter named weight in layers of class Conv2d"),
        ([("trainer.callbacks.0.init_args.monitor", "val_acc")], "val_acc"),
        ([("trainer.callbacks.3.init_args", {"monitor": "val_acc"})], "SaveCompressed monitors 'val_acc'"),
        ([("model.init_args.network.class_path", "no.such.Net")], "no.such.Net"),
        ([("model.init_args.network.init_args.dropout", 1.5)], "dropout probability"),
        ([("data.init_args.images.init_args.batch_size", 0)], "batch sizes must be at least 1"),
        ([("optimizer.init_args.momentm", 0.9)], "momentm"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], edits: list[Any], message: str
) -> None:
    config = lightning_config(tmp_path, ("trainer.max_epochs", 1), ("trainer.limit_train_batches", 1), *edits)
    assert main(["fit", "--config", str(write(tmp_path / "config.yaml", config))]) == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("featherweight: error: ")
    assert message in last


def test_a_missing_configuration_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", "absent.yaml"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "absent.yaml" in told


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    def edit(saved: dict[str, Any]) -> None:
        del saved["state_dict"][key]

    return edit


def _narrow(saved: dict[str, Any]) -> None:
    saved["state_dict"]["fc3.weight"] = saved["state_dict"]["fc3.weight"][:5]


def _no_weights(saved: dict[str, Any]) -> None:
    del saved["state_dict"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_without("fc2.weight"), "fc2.weight"),
        (_narrow, "fc3.weight"),
        (_no_weights, "it has no state_dict"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_line_that_names_what_is_missing(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], edit: Any, message: str
) -> None:
    saved = torch.load(checkpoint(fitted), weights_only=True)
    edit(saved)
    torch.save(saved, tmp_path / "bad.ckpt")
    capsys.readouterr()
    assert main(["test", "--config", str(fitted / "config.yaml"), "--ckpt_path", "bad.ckpt"]) == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("featherweight: error: ")
    assert message in last


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "bad.ckpt: there is no such checkpoint; check --ckpt_path"),
        (b"", "bad.ckpt: is no checkpoint of Lightning's, or is damaged"),
        (b"half a checkpoint", "bad.ckpt: is no checkpoint of Lightning's, or is damaged"),
    ],
)
def test_a_damaged_checkpoint_is_one_line(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "bad.ckpt").write_bytes(content)
    capsys.readouterr()
    assert main(["test", "--config", str(fitted / "config.yaml"), "--ckpt_path", "bad.ckpt"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert message in told


def test_ctrl_c_in_fit_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("featherweight.training.module.Classifier.on_train_epoch_end", stop)
    config = write(tmp_path / "config.yaml", lightning_config(tmp_path))
    try:
        assert main(["fit", "--config", str(config)]) == FAILED
    finally:
        signal.signal(signal.SIGINT, before)
    *_, last = capsys.readouterr().err.splitlines()
    assert last == "featherweight: stopped; featherweight fit --ckpt_path PATH goes on from a checkpoint"
