from __future__ import annotations

import errno
import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import lightning
import pytest
import torch
from safetensors.torch import load_file as load_safetensors
from training_helpers import Small, digits, same_bits, zeros

from featherweight import load_file, load_model
from featherweight.cli import main
from featherweight.data import Digits
from featherweight.data.batches import Batches
from featherweight.errors import OutputError, RecipeError, TensorError
from featherweight.strict import build, write_mapping
from featherweight.training import run as run_module
from featherweight.training.evaluate import evaluate
from featherweight.training.module import Classifier
from featherweight.training.phases import EpochCheckpoint
from featherweight.training.run import Run
from featherweight.training.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PHASES = ("fit", "prune", "share")

#: Batches an epoch: 1,131 images by 128.
BATCHES = 9

KEYS = [
    "name", "model", "dataset", "error_dense_percent", "error_percent", "bytes", "dense_bytes", "ratio",
    "ratio_h", "ratio_n", "seconds", "seed", "command", "file",
]  # fmt: skip


def description(**changes: Any) -> dict[str, Any]:
    """A run of 2 + 3 + 2 epochs with dropout, shifts, momentum and Adam."""
    rule = {
        "match": "fc*.weight",
        "prune": {
            "sparsity": 0.8,
            "scope": "global",
            "schedule": {"kind": "cubic", "epochs": 2, "every_steps": 4},
        },
        "quantize": {"bits": 3},
    }
    return {
        "name": "small",
        "model": {"class_path": "training_helpers.Small", "init_args": {"dropout": 0.2}},
        "data": {"class_path": "featherweight.data.Digits", "init_args": {"batch_size": 128, "shift": 1}},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9, "nesterov": True}},
        "fit": {"epochs": 2, "lr": 0.05},
        "prune": {"epochs": 3, "lr": 0.05, "plain_epochs": 1},
        "share": {"epochs": 2, "lr": 0.001, "optimizer": {"class_path": "torch.optim.Adam"}},
        "recipe": {"rules": [rule]},
        "threads": 1,
        **changes,
    }


def start(directory: Path, **changes: Any) -> Run:
    data = {k: v for k, v in description(**changes).items() if v is not None}
    return Run.create(build(RunSpec, data, "run"), directory)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nothing interrupted."""
    run = start(tmp_path_factory.mktemp("whole") / "run")
    run.execute()
    return run


def result(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.directory / "result.json").read_text())
    return found


def same_outcome(run: Run, reference: Run) -> bool:
    first, second = result(run), result(reference)
    first.pop("seconds"), second.pop("seconds")
    files = [(r.file.read_bytes(), (r.directory / "metrics.csv").read_bytes()) for r in (run, reference)]
    return files[0] == files[1] and first == second


# -- what a run leaves -------------------------------------------------------------------------------


def test_the_result_has_the_keys_of_the_design_and_the_files_figures(whole: Run) -> None:
    found = result(whole)
    assert list(found) == KEYS
    dense = 4 * (784 * 16 + 16 + 16 * 10 + 10)
    assert (found["name"], found["model"], found["dataset"], found["seed"]) == ("small", "Small", "digits", 0)
    assert found["bytes"] == whole.file.stat().st_size
    assert found["dense_bytes"] == dense
    assert found["ratio"] == dense / found["bytes"]
    assert found["ratio_n"] == pytest.approx(5, rel=1e-3)  # four of five weights are pruned
    assert found["ratio_h"] > 10
    assert found["command"] == "featherweight run recipes/small.yaml"
    assert whole.directory / found["file"] == whole.file
    assert found["seconds"] > 0


def test_errors_are_those_of_the_dense_weights_and_of_the_file(whole: Run) -> None:
    found = result(whole)
    compressed, dense = load_model(Small(), whole.file), Small()
    dense.load_state_dict(load_safetensors(whole.directory / "fit.safetensors"))
    batches = digits().test_batches()
    for network, key in ((compressed, "error_percent"), (dense, "error_dense_percent")):
        network.eval()
        wrong = sum(int((network(x).argmax(1) != y).sum()) for x, y in batches)
        assert found[key] == pytest.approx(100 * wrong / 540)
        assert evaluate(network, batches).error_percent == found[key]
        assert found[key] < 50


def test_without_the_test_only_validation_images_are_asked(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Digits, "test_batches", None)
        found = run.execute_without_test()
    assert asdict(found) == json.loads((run.directory / "validation.json").read_text())
    assert not (run.directory / "result.json").exists()
    batches = digits().validation_batches()
    assert (found.images, found.dataset, found.file) == (batches.num_images, "digits", "small.fwt")
    assert found.error_percent == evaluate(load_model(Small(), run.file), batches).error_percent
    assert (found.bytes, found.ratio) == (result(whole)["bytes"], result(whole)["ratio"])
    Run.resume(run.directory).execute()
    assert same_outcome(run, whole)


def test_without_validation_images_there_is_nothing_to_choose_by(tmp_path: Path) -> None:
    data = {"class_path": "featherweight.data.Digits", "init_args": {"validation_split": 0}}
    run = start(tmp_path / "run", data=data)
    with pytest.raises(RecipeError, match=r"set data\.validation_split"):
        run.execute_without_test()
    assert not run.directory.exists()


def test_test_file_tells_the_same_error(whole: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test-file", str(whole.file), "--config", str(whole.directory / "run.yaml"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["error_percent", "loss", "examples", "file_bytes"]
    assert told["error_percent"] == result(whole)["error_percent"]
    assert (told["examples"], told["file_bytes"]) == (540, whole.file.stat().st_size)


def test_the_file_decodes_to_the_trained_weights_bit_for_bit(whole: Run) -> None:
    trained = load_safetensors(whole.directory / "share.safetensors")
    assert same_bits(load_file(whole.file), trained)
    pruned = load_safetensors(whole.directory / "prune.safetensors")
    for name in ("fc1.weight", "fc2.weight"):
        assert len(trained[name].unique()) <= 8
        assert torch.equal(trained[name] == 0, pruned[name] == 0)
    assert zeros(pruned["fc1.weight"]) + zeros(pruned["fc2.weight"]) == round(0.8 * 12704)


def test_nothing_is_left_of_work_in_progress(whole: Run) -> None:
    left = sorted(p.name for p in whole.directory.rglob("*") if p.is_file())
    assert left == [
        "fit.safetensors", "metrics.csv", "prune.safetensors", "report.html", "result.json", "run.yaml",
        "share.safetensors", "small.fwt", "state.json",
    ]  # fmt: skip


def test_the_same_run_makes_the_same_file_and_another_seed_another(whole: Run, tmp_path: Path) -> None:
    again = start(tmp_path / "again")
    again.execute()
    assert same_outcome(again, whole)
    other = start(tmp_path / "other", seed=1)
    other.execute()
    assert other.file.read_bytes() != whole.file.read_bytes()


def test_a_finished_run_that_is_resumed_trains_no_more(whole: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before, seconds = whole.file.read_bytes(), result(whole)["seconds"]
    monkeypatch.setattr(run_module, "train_phase", None)
    Run.resume(whole.directory).execute()
    assert whole.file.read_bytes() == before
    assert result(whole)["seconds"] == seconds


# -- phases that are left out ------------------------------------------------------------------------


def test_without_a_share_phase_weights_are_quantized_at_the_end(tmp_path: Path) -> None:
    run = start(tmp_path / "run", share=None)
    assert run.execute().bytes < 6000
    decoded, pruned = load_file(run.file), load_safetensors(run.directory / "prune.safetensors")
    assert len(decoded["fc1.weight"].unique()) <= 8
    assert torch.equal(decoded["fc1.weight"] == 0, pruned["fc1.weight"] == 0)
    assert same_bits({"b": decoded["fc1.bias"]}, {"b": pruned["fc1.bias"]})


def test_without_a_prune_phase_nothing_is_pruned(tmp_path: Path) -> None:
    run = start(tmp_path / "run", prune=None)
    found = run.execute()
    assert found.ratio_n < 1.01
    assert same_bits(load_file(run.file), load_safetensors(run.directory / "share.safetensors"))


def test_fit_alone_stores_the_dense_network(tmp_path: Path) -> None:
    run = start(tmp_path / "run", prune=None, share=None, recipe={})
    found = run.execute()
    assert found.error_percent == found.error_dense_percent
    assert same_bits(load_file(run.file), load_safetensors(run.directory / "fit.safetensors"))


def test_the_last_epochs_of_a_phase_see_images_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = {}

    def watched(self: Batches, epoch: int) -> Any:
        cut = corners(self, epoch)
        if cut is not None:
            moved[epoch] = bool((cut != self.shift).any())
        return cut

    corners = Batches._corners
    monkeypatch.setattr(Batches, "_corners", watched)
    phases = {"fit": {"epochs": 2, "lr": 0.05}, "share": {"epochs": 2, "lr": 0.001, "plain_epochs": 2}}
    start(tmp_path / "run", **phases).execute()
    assert moved == {0: True, 1: True, 2: True, 3: True, 4: False, 5: False, 6: False}


def test_there_cannot_be_more_plain_epochs_than_epochs(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="plain_epochs must be from 0 to the phase's 2 epochs, got 3"):
        start(tmp_path / "run", fit={"epochs": 2, "lr": 0.05, "plain_epochs": 3})


def test_weights_that_are_pruned_but_not_quantized_stay_pruned_through_share(tmp_path: Path) -> None:
    rules = [
        {"match": "fc1.weight", "prune": {"sparsity": 0.75}},
        {"match": "fc2.weight", "quantize": {"bits": 2}},
    ]
    run = start(tmp_path / "run", recipe={"rules": rules})
    run.execute()
    pruned = load_safetensors(run.directory / "prune.safetensors")
    shared = load_safetensors(run.directory / "share.safetensors")
    assert zeros(pruned["fc1.weight"]) == 9408
    assert torch.equal(pruned["fc1.weight"] == 0, shared["fc1.weight"] == 0)
    assert not torch.equal(pruned["fc1.weight"], shared["fc1.weight"])  # trained on
    assert len(shared["fc1.weight"].unique()) > 256
    assert len(shared["fc2.weight"].unique()) <= 3
    assert same_bits(load_file(run.file), shared)


@pytest.mark.parametrize("faster", [False, True])
def test_distilled_with_dead_units_removed_and_the_rest_in_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, faster: bool
) -> None:
    changes: dict[str, Any] = description()
    changes["recipe"]["rules"][0]["prune"] |= {"sparsity": 0.99, "rate": 1.0}
    changes["recipe"]["units"] = [{"layer": "fc1", "reader": "fc2"}]
    changes["prune"] |= {"distill": {"weight": 0.9, "temperature": 2.0}}
    changes["share"] |= {"distill": {"teacher": "prune"}}
    changes["prune"]["distill"]["remember"] = changes["live_only"] = faster
    run = start(tmp_path / "run", **changes)
    run.execute()
    weights = load_file(run.file)
    fed, read = (weights["fc1.weight"] != 0).sum(1), (weights["fc2.weight"] != 0).sum(0)
    assert torch.equal(fed > 0, read > 0)
    assert 0 < int((fed > 0).sum()) < 16
    assert fed.tolist() == sorted(fed.tolist(), reverse=True)
    assert torch.equal(weights["fc1.bias"] != 0, fed > 0)
    evaluated = [result(run)["error_percent"]]
    network = Small()
    network.load_state_dict(load_safetensors(run.directory / "share.safetensors"))
    assert evaluated == [pytest.approx(evaluate(network, digits().test_batches()).error_percent)]

    stopping = Stop(KeyboardInterrupt(), 25)  # in prune
    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "training_step", stopping.wrap(Classifier.training_step))
        stopped = start(tmp_path / "again", **changes)
        with pytest.raises(KeyboardInterrupt):
            stopped.execute()
    again = Run.resume(stopped.directory)
    again.execute()
    assert same_outcome(again, run)


def test_the_recipe_may_be_a_path_relative_to_the_run_file(whole: Run, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    data = description()
    write_mapping(data["recipe"], tmp_path / "parts" / "recipe.json")
    del data["name"]
    write_mapping({**data, "recipe": "parts/recipe.json"}, tmp_path / "small.yaml")
    spec = RunSpec.load(tmp_path / "small.yaml")
    assert spec == whole.spec
    spec.save(tmp_path / "copy.json")
    assert RunSpec.load(tmp_path / "copy.json") == spec


# -- stopped and taken up again ------------------------------------------------------------------------


class Stop:
    """Raise at the nth call."""

    def __init__(self, error: BaseException, call: int) -> None:
        self.error, self.left = error, call

    def wrap(self, function: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
        def stopping(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not after:
                raise self.error
            value = function(*args, **kwargs)
            if self.left == 0:
                raise self.error
            return value

        return stopping


def stop_and_resume(
    monkeypatch: pytest.MonkeyPatch,
    directory: Path,
    owner: Any,
    name: str,
    stop: Stop,
    *,
    after: bool = False,
) -> Run:
    run = start(directory)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stop.wrap(getattr(owner, name), after=after))
        with pytest.raises(type(stop.error)):
            run.execute()
    assert not run.file.exists() or name == "evaluate"
    again = Run.resume(directory)
    again.execute()
    return again


# Steps 1 … 18 are fit's, 19 … 45 prune's, 46 … 63 share's.
@pytest.mark.parametrize(
    ("step", "error"),
    [
        *[(step, KeyboardInterrupt()) for step in (1, 12, 19, 22, 40, 46, 55, 63)],
        *[(step, RuntimeError("a bug")) for step in (18, 28, 50)],
    ],
)
def test_stopped_within_an_epoch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: Run, step: int, error: BaseException
) -> None:
    again = stop_and_resume(monkeypatch, tmp_path / "run", Classifier, "training_step", Stop(error, step))
    assert same_outcome(again, whole)


@pytest.mark.parametrize(
    ("epoch", "after"), [(1, False), (1, True), (2, True), (3, True), (5, False), (6, True), (7, False)]
)
def test_stopped_around_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: Run, epoch: int, after: bool
) -> None:
    stop = Stop(KeyboardInterrupt(), epoch)
    again = stop_and_resume(
        monkeypatch, tmp_path / "run", EpochCheckpoint, "on_train_epoch_end", stop, after=after
    )
    assert same_outcome(again, whole)


@pytest.mark.parametrize("phase", [1, 2, 3])
@pytest.mark.parametrize(("step", "after"), [("write_safetensors", False), ("write_safetensors", True)])
def test_stopped_between_phases(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: Run, phase: int, after: bool, step: str
) -> None:
    stop = Stop(KeyboardInterrupt(), phase)
    again = stop_and_resume(monkeypatch, tmp_path / "run", run_module, step, stop, after=after)
    assert same_outcome(again, whole)


def test_stopped_before_weights_are_shared_by_gradients(tmp_path: Path) -> None:
    changes = description(fit={"epochs": 1, "lr": 0.05}, prune={"epochs": 2, "lr": 0.05})
    changes["recipe"]["rules"][0]["quantize"] |= {"method": "ecsq", "lagrangian": 0.02, "weights": "fisher"}
    runs = [start(tmp_path / name, **changes) for name in ("first", "second")]
    for run in runs:
        run.execute()
    (runs[1].directory / "share.safetensors").unlink()
    runs[1].file.unlink()
    again = Run.resume(runs[1].directory)
    again.execute()
    assert again.file.read_bytes() == runs[0].file.read_bytes()


@pytest.mark.parametrize("step", ["encode_state", "save_file", "load_model", "measure_file", "evaluate"])
def test_stopped_after_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: Run, step: str
) -> None:
    run = start(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(run_module, step, Stop(KeyboardInterrupt(), 1).wrap(getattr(run_module, step)))
        with pytest.raises(KeyboardInterrupt):
            run.execute()
    assert not (run.directory / "result.json").exists()
    again = Run.resume(run.directory)
    again.execute()
    assert same_outcome(again, whole)


def test_stopped_three_times(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: Run) -> None:
    run = start(tmp_path / "run")
    for step in (12, 12, 25):  # in fit; then, resumed in its second epoch, in prune; then in share
        with monkeypatch.context() as patch:
            stop = Stop(KeyboardInterrupt(), step)
            patch.setattr(Classifier, "training_step", stop.wrap(Classifier.training_step))
            with pytest.raises(KeyboardInterrupt):
                run.execute()
        run = Run.resume(run.directory)
    run.execute()
    assert same_outcome(run, whole)


def test_ctrl_c_is_heard_again_after_a_run_was_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import signal

    before = signal.getsignal(signal.SIGINT)
    stop_and_resume(monkeypatch, tmp_path / "run", Classifier, "training_step", Stop(KeyboardInterrupt(), 3))
    assert signal.getsignal(signal.SIGINT) is before


def test_random_numbers_drawn_outside_make_no_difference(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: Run
) -> None:
    run = start(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(
            Classifier, "training_step", Stop(KeyboardInterrupt(), 30).wrap(Classifier.training_step)
        )
        with pytest.raises(KeyboardInterrupt):
            run.execute()
    torch.manual_seed(12345)
    again = Run.resume(run.directory)
    again.execute()
    assert same_outcome(again, whole)


# -- disks and numbers that fail -----------------------------------------------------------------------


@pytest.mark.parametrize("call", [1, 3, 7])
def test_a_full_disk_at_a_checkpoint_is_told_and_the_run_goes_on_afterwards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: Run, call: int
) -> None:
    def half(trainer: lightning.Trainer, path: Path, *args: Any) -> None:
        # As when a copy from another disk is cut short.
        full.left -= 1
        if full.left == 0:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"half a checkpoint")
            raise full.error
        save(trainer, path, *args)

    full = Stop(OSError(errno.ENOSPC, "No space left on device"), call)
    save = lightning.Trainer.save_checkpoint
    run = start(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "save_checkpoint", half)
        with pytest.raises(OutputError, match=r"\.ckpt: cannot be written: No space left on device"):
            run.execute()
    assert not list(tmp_path.rglob("*.part"))
    again = Run.resume(run.directory)
    again.execute()
    assert same_outcome(again, whole)


def test_killed_while_a_checkpoint_is_copied(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: Run
) -> None:
    class Killed(BaseException):
        """Nothing catches it."""

    def half(trainer: lightning.Trainer, path: Path, *args: Any) -> None:
        if trainer.current_epoch == 1:
            path.write_bytes(b"half a checkpoint")
            raise Killed
        save(trainer, path, *args)

    save = lightning.Trainer.save_checkpoint
    run = start(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "save_checkpoint", half)
        with pytest.raises(Killed):
            run.execute()
    again = Run.resume(run.directory)
    again.execute()
    assert same_outcome(again, whole)


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_full_disk_at_any_other_file_leaves_nothing_half_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: Run, call: int
) -> None:
    full = Stop(OSError(errno.ENOSPC, "No space left on device"), call)
    run = start(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full.wrap(lambda descriptor: None))
        with pytest.raises(OutputError, match="cannot be written: No space left on device"):
            run.execute()
    written = sorted(p.name for p in run.directory.iterdir() if p.suffix in (".safetensors", ".fwt", ".tmp"))
    assert written == sorted(f"{phase}.safetensors" for phase in PHASES[: call - 1])
    again = Run.resume(run.directory)
    again.execute()
    assert same_outcome(again, whole)


@pytest.mark.parametrize("phase", PHASES[:2])
def test_training_that_diverges_is_told(tmp_path: Path, phase: str) -> None:
    run = start(tmp_path / "run", **{phase: {"epochs": 3, "lr": 1e10, "lr_schedule": "constant"}})
    with pytest.raises(TensorError, match=r"fc\d\.\w+: the weights are not finite.*lower its learning rate"):
        run.execute()
    assert not run.file.exists()
    assert not (run.directory / f"{phase}.safetensors").exists()


def test_pruning_that_runs_out_of_epochs_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rule = {
        "match": "fc*.weight",
        "prune": {"sparsity": 0.9, "schedule": {"kind": "cubic", "epochs": 9, "every_steps": 1}},
    }
    run = start(tmp_path / "run", share=None, recipe={"rules": [rule]})
    with caplog.at_level(logging.WARNING, logger="featherweight"):
        run.execute()
    assert "not 0.900: too few epochs" in caplog.text


# -- directories ---------------------------------------------------------------------------------------


def test_nothing_is_written_before_the_parts_fit_together(tmp_path: Path) -> None:
    run = start(tmp_path / "run", recipe={"rules": [{"match": "conv*"}]})
    with pytest.raises(RecipeError, match=r"the rule for 'conv\*' matches no tensor"):
        run.execute()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_holds_something_is_left_alone(tmp_path: Path, whole: Run) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for replace in (False, True):
        with pytest.raises(OutputError, match="exists and is not empty"):
            Run.create(whole.spec, tmp_path, replace=replace)
    with pytest.raises(OutputError, match="is no directory"):
        Run.create(whole.spec, tmp_path / "notes.txt")
    with pytest.raises(OutputError, match=r"--resume .* goes on with it, --force starts it anew"):
        Run.create(whole.spec, whole.directory)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_is_replaced_only_once_its_successor_can_start(tmp_path: Path) -> None:
    first = start(tmp_path / "run", prune=None, share=None)
    first.execute()
    before = first.file.read_bytes()
    broken = build(RunSpec, description(recipe={"rules": [{"match": "conv*"}]}), "run")
    with pytest.raises(RecipeError):
        Run.create(broken, first.directory, replace=True).execute()
    assert first.file.read_bytes() == before
    second = build(
        RunSpec, {k: v for k, v in description(name="second").items() if k not in PHASES[1:]}, "run"
    )
    Run.create(second, first.directory, replace=True).execute()
    assert not first.file.exists()
    assert (first.directory / "second.fwt").exists()


def test_an_empty_directory_will_do(tmp_path: Path) -> None:
    assert start(tmp_path, prune=None, share=None).execute().bytes == (tmp_path / "small.fwt").stat().st_size
