"""Mappings that make their tensors when asked."""

import pytest
import torch

import featherweight as fw
from featherweight.lazy import HeldTensors, LazyTensors, TensorSpec, WatchedTensors, as_lazy


class Counted(LazyTensors[torch.Tensor]):
    """Tensors of one value, of which it is remembered how often they were asked for."""

    def __init__(self, *names):
        super().__init__({name: TensorSpec("float32", (3, 2)) for name in names})
        self.asked = []

    def __getitem__(self, name):
        self.asked.append(name)
        return torch.full((3, 2), float(len(name)))


def test_nothing_is_made_before_it_is_asked_for():
    lazy = Counted("b", "a")
    assert list(lazy) == ["b", "a"]
    assert len(lazy) == 2
    assert "a" in lazy
    assert "c" not in lazy
    assert lazy.dense_bytes == 48
    assert as_lazy(lazy) is lazy
    assert lazy.asked == []


def test_what_is_watched_is_told_after_it_was_made():
    told = []
    watched = WatchedTensors(Counted("b", "a"), told.append)
    assert told == []
    assert watched["a"].shape == (3, 2)
    assert told == ["a"]


def test_saving_asks_for_each_once_in_order(tmp_path):
    lazy = Counted("b", "aa")
    fw.save_file(lazy, tmp_path / "a.fwt")
    assert lazy.asked == ["aa", "b"]
    assert fw.load_file(tmp_path / "a.fwt")["aa"].tolist() == [[2.0, 2.0]] * 3


def test_held_tensors_know_their_ties_and_kinds():
    weight = torch.randn(2, 3)
    held = HeldTensors({"b": weight, "a": weight, "half": weight.half(), "sparse": weight.to_sparse()})
    assert held.owners == {"b": "b", "a": "b", "half": "half", "sparse": "sparse"}
    assert held.distinct == ["b", "half", "sparse"]
    assert held.specs["half"] == TensorSpec("float16", (2, 3))
    assert not held.specs["sparse"].dense
    assert held.dense_bytes == 24 + 12 + 24


@pytest.mark.parametrize("quantized", [False, True])
def test_an_open_file_as_a_mapping(tmp_path, quantized):
    weight = torch.randn(30, 40).round() if quantized else torch.randn(30, 40)
    fw.save_file({"one": weight, "two": weight, "bias": torch.zeros(2, dtype=torch.int8)}, tmp_path / "a.fwt")
    with fw.open_file(tmp_path / "a.fwt") as file:
        tensors = file.tensors()
        assert tensors.owners == {"one": "one", "two": "one", "bias": "bias"}
        assert tensors.specs["bias"] == TensorSpec("int8", (2,))
        assert torch.equal(tensors["two"], weight)
        with pytest.raises(KeyError):
            tensors["three"]
