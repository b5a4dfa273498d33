"""Pruning and sharing side by side with what else a trainer does."""

from __future__ import annotations

import csv
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from training_helpers import (
    LIGHTNING_WARNINGS,
    Small,
    Watch,
    network,
    same_bits,
    snapshot,
    train,
    zeros,
)

from featherweight import load_file
from featherweight.training.callbacks import IterativePruning, Quantization, SaveCompressed

if TYPE_CHECKING:
    from pathlib import Path

    import lightning

pytestmark = [pytest.mark.filterwarnings(w) for w in LIGHTNING_WARNINGS]

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
ADAM = partial(torch.optim.Adam, lr=1e-3)
ADAMW = partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.1)


def both(quantize_at: int = 2, **pruning: Any) -> list[lightning.Callback]:
    """Prune to 0.6 and 0.84, then share 2³ values."""
    return [
        IterativePruning(amount=0.6, pruning_schedule={"target_sparsity": 0.8}, **pruning),
        Quantization(quantize_at, bits=3, huffman_encode=True),
    ]


# -- invariants ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (SGD, {}),
        (ADAM, {}),
        (ADAMW, {}),
        (SGD, {"accumulate_grad_batches": 2}),
        (ADAM, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}),
        (SGD, {"gradient_clip_val": 0.05, "gradient_clip_algorithm": "value"}),
        (ADAMW, {"precision": "bf16-mixed"}),
    ],
)
def test_weights_stay_pruned_and_shared_after_every_batch(
    tmp_path: Path, optimizer: Any, options: dict[str, Any]
) -> None:
    watch = Watch(after_batch=lambda m: m.fc1.weight.detach().clone())
    train(network(), [*both(), watch], tmp_path, steps=4, optimizer=optimizer, **options)
    for epoch in range(1, 4):
        weights = watch.batches[4 * epoch : 4 * epoch + 4]
        pruned = weights[0] == 0
        assert all(torch.equal(w == 0, pruned) for w in weights)
    first, *later = watch.batches[8:]
    clusters = first.unique(return_inverse=True)[1]
    size = len(first.unique())
    assert 5 <= size <= 8  # a centroid that starts in the gap around the pruned weights stays empty
    for weight in later:
        assert len(weight.unique()) == size
        assert all(len(weight[clusters == c].unique()) == 1 for c in range(size))
    assert not torch.equal(first, later[-1])


def test_what_is_pruned_once_stays_pruned(tmp_path: Path) -> None:
    watch = Watch(after_batch=lambda m: m.fc1.weight.detach() == 0)
    train(network(), [*both(), watch], tmp_path, optimizer=SGD)
    assert all(
        (later | ~earlier).all() for earlier, later in zip(watch.batches, watch.batches[1:], strict=False)
    )
    assert [int(w.sum()) for w in watch.batches[-7:]] == [int(watch.batches[-1].sum())] * 7


def test_accumulated_batches_make_the_step_of_one_large_batch(tmp_path: Path) -> None:
    models = []
    for batch_size, steps, accumulate in ((128, 4, 1), (64, 8, 2)):
        model = network()
        train(
            model,
            [Quantization(0, bits=3)],
            tmp_path,
            epochs=1,
            batch_size=batch_size,
            steps=steps,
            optimizer=partial(torch.optim.SGD, lr=1e-4, momentum=0.9),
            accumulate_grad_batches=accumulate,
        )
        models.append(model)
    start = network().fc1.weight.unique()
    assert len(start) > 1000
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict(), rtol=1e-4, atol=1e-6)


def test_state_dict_keys_and_classes_stay_as_they_were(tmp_path: Path) -> None:
    model = network()
    train(model, both(), tmp_path)
    assert list(model.state_dict()) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert type(model.fc1) is torch.nn.Linear
    assert not model.fc1._forward_pre_hooks


# -- beside other callbacks and loggers ----------------------------------------------------------------


def test_early_stopping_and_checkpoints_beside_them(tmp_path: Path) -> None:
    stopping = EarlyStopping("val_accuracy", mode="max", patience=1, min_delta=1.0)
    keeper = ModelCheckpoint(tmp_path, monitor="val_accuracy", mode="max")
    trainer = train(
        network(), [*both(1), stopping, keeper, SaveCompressed(str(tmp_path))], tmp_path, epochs=9
    )
    assert trainer.current_epoch == 2  # nothing gets better by 100 points, so patience ends after two epochs
    assert len(load_file(tmp_path / "model.fwt")["fc1.weight"].unique()) <= 8
    saved = torch.load(keeper.best_model_path, weights_only=True)["state_dict"]
    assert Small().load_state_dict(saved)


def logged(root: Path) -> dict[str, list[float]]:
    with next(root.rglob("metrics.csv")).open() as file:
        rows = list(csv.DictReader(file))
    return {key: [float(row[key]) for row in rows if row[key]] for key in rows[0]}


def test_figures_arrive_in_both_loggers_files(tmp_path: Path) -> None:
    loggers = [CSVLogger(tmp_path / "csv"), TensorBoardLogger(tmp_path / "tb")]
    model = network()
    callbacks = [*both(), SaveCompressed()]
    trainer = train(model, callbacks, tmp_path, logger=loggers, log_every_n_steps=1)
    found = logged(tmp_path / "csv")
    total = sum(p.numel() for p in model.parameters())
    weights = 12544 + 160
    expected = [round(0.6 * weights) / total, *[(weights - round(0.4 * round(0.4 * weights))) / total] * 3]
    assert found["sparsity"] == pytest.approx(expected, abs=2e-4)
    assert found["sparsity/fc1.weight"][-1] == pytest.approx(zeros(model.fc1.weight) / 12544)
    assert found["sparsity/fc2.weight"][-1] == pytest.approx(zeros(model.fc2.weight) / 160)
    assert len(found["compression_rate"]) == 2  # epochs 2 and 3
    assert found["compression_rate"][-1] > 20
    assert found["compression_rate_huffman"][-1] > found["compression_rate"][-1]
    assert 0 < found["bits/fc1.weight"][-1] < 2
    assert found["bits/fc2.weight"][-1] > found["bits/fc1.weight"][-1]
    file = tmp_path / "csv" / "lightning_logs" / "version_0" / "model.fwt"
    assert trainer.log_dir is not None
    assert found["file_bytes"] == [file.stat().st_size]
    assert found["file_ratio"] == pytest.approx([4 * total / file.stat().st_size])
    assert board(tmp_path / "tb", "sparsity") == pytest.approx(found["sparsity"])
    assert board(tmp_path / "tb", "compression_rate") == pytest.approx(found["compression_rate"])
    assert board(tmp_path / "tb", "bits/fc1.weight") == pytest.approx(found["bits/fc1.weight"])
    assert board(tmp_path / "tb", "file_bytes") == [file.stat().st_size]


def board(root: Path, tag: str) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next(root.rglob("events.*")).parent))
    events.Reload()
    return [event.value for event in events.Scalars(tag)]


# -- resuming -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "stopped", "at_train_end"),
    [(SGD, 0, True), (SGD, 1, True), (SGD, 2, True), (SGD, 2, False), (ADAM, 1, False), (ADAM, 3, True)],
)
def test_a_resumed_training_ends_bit_for_bit_as_an_uninterrupted_one(
    tmp_path: Path, optimizer: Any, stopped: int, at_train_end: bool
) -> None:
    keeper = ModelCheckpoint(
        tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=at_train_end, monitor="val_loss"
    )
    whole = network()
    train(whole, [*both(), keeper], tmp_path, epochs=5, optimizer=optimizer)
    again = network(seed=1)
    watch = Watch(after_batch=lambda m: zeros(m.fc1.weight))
    train(
        again,
        [*both(), watch],
        tmp_path,
        epochs=5,
        optimizer=optimizer,
        resume=tmp_path / f"epoch={stopped}.ckpt",
    )
    assert same_bits(again.state_dict(), whole.state_dict())
    assert len(watch.batches) == 3 * (4 - stopped)


def test_a_checkpoint_loads_into_the_plain_network(tmp_path: Path) -> None:
    keeper = ModelCheckpoint(tmp_path, "last")
    model = network()
    train(model, [*both(), keeper], tmp_path)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    plain = Small()
    plain.load_state_dict(saved["state_dict"])
    assert same_bits(plain.state_dict(), model.state_dict())
    assert zeros(plain.fc1.weight) > 10000


def test_masks_hold_in_a_second_training_of_the_same_callback(tmp_path: Path) -> None:
    model = network()
    callback = IterativePruning(amount=0.9, pruning_schedule={"epochs": [0]})
    train(model, [callback], tmp_path, epochs=1)
    pruned = model.fc1.weight == 0
    later = IterativePruning(amount=0.9, pruning_schedule={"epochs": []})
    later.load_state_dict(callback.state_dict())
    train(model, [later], tmp_path, epochs=1)
    assert torch.equal(model.fc1.weight == 0, pruned)


# -- the file -----------------------------------------------------------------------------------------


def test_the_file_decodes_to_the_trained_network(tmp_path: Path) -> None:
    model = network()
    train(model, [*both(), SaveCompressed(str(tmp_path), "small.fwt", coder="fixed")], tmp_path)
    assert same_bits(load_file(tmp_path / "small.fwt"), model.state_dict())


def test_with_a_monitor_the_file_is_that_of_the_best_epoch(tmp_path: Path) -> None:
    # The greatest loss counts as best, so that the last epoch is not.
    keeper = ModelCheckpoint(tmp_path, "{epoch}", monitor="val_loss", mode="max")
    saver = SaveCompressed(str(tmp_path), monitor="val_loss", mode="max")
    model = network()
    train(model, [*both(1), keeper, saver], tmp_path, optimizer=partial(torch.optim.SGD, lr=1e-3))
    best = torch.load(keeper.best_model_path, weights_only=True)["state_dict"]
    assert same_bits(load_file(tmp_path / "model.fwt"), best)
    assert not same_bits(best, model.state_dict())
    assert saver.best == pytest.approx(float(keeper.best_model_score))


def test_epochs_before_the_start_do_not_count(tmp_path: Path) -> None:
    saver = SaveCompressed(str(tmp_path), monitor="val_loss", mode="min", start_epoch=2)
    watch = Watch(at_start=snapshot)
    model = network()
    train(model, [*both(2), saver, watch], tmp_path, epochs=3, optimizer=partial(torch.optim.SGD, lr=1.0))
    decoded = load_file(tmp_path / "model.fwt")
    assert same_bits(decoded, model.state_dict())
    assert len(decoded["fc1.weight"].unique()) <= 8
