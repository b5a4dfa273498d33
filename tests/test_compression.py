"""Recipes applied to models: compress in one go, prune and share in a loop."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import featherweight as fw
from featherweight.compression import encode_state
from featherweight.constraints import Constraints
from featherweight.lazy import HeldTensors, LazyTensors
from featherweight.quantization import assign_nearest


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads only slow such small networks down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_model(dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(4 * 36, 12),
        nn.Tanh(),
        nn.Linear(12, 3),
    )
    model(torch.randn(5, 1, 8, 8))
    return model.to(dtype)


def recipe_of(*rules):
    return fw.Recipe(rules)


def pruned_by_hand(weight, fraction):
    """The smallest magnitudes removed, first ones first among equals."""
    flat = weight.detach().double().numpy().reshape(-1).copy()
    flat[np.argsort(np.abs(flat), kind="stable")[: round(fraction * flat.size)]] = 0
    return flat.reshape(weight.shape)


def snapshot(model):
    return copy.deepcopy(model.state_dict())


def assert_unchanged(model, before):
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


# -- compress --------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_module", [True, False])
def test_compress(tmp_path, as_module):
    model = make_model()
    before = snapshot(model)
    recipe = recipe_of(
        fw.Rule("0.weight", fw.Prune(sparsity=0.5)),
        fw.Rule("3.weight", fw.Prune(sparsity=0.9), fw.Quantize(bits=3)),
        fw.Rule(
            "5.weight", quantize=fw.Quantize(bits=2, init="density", fix_zeros=False), code=fw.Code("fixed")
        ),
    )
    result = fw.compress(model if as_module else model.state_dict(), recipe)
    assert_unchanged(model, before)
    assert list(result) == list(before)
    np.testing.assert_array_equal(result["0.weight"].numpy(), pruned_by_hand(before["0.weight"], 0.5))
    pruned = pruned_by_hand(before["3.weight"], 0.9)
    shared = result["3.weight"]
    np.testing.assert_array_equal(shared.indices == 0, pruned == 0)
    assert shared.codebook[0] == 0
    assert shared.codebook.size <= 8
    assert shared.coder == "context"
    kept = pruned[pruned != 0].astype(np.float32)
    np.testing.assert_array_equal(
        shared.indices[pruned != 0], assign_nearest(kept, shared.codebook[1:], offset=1)
    )
    assert result["5.weight"].codebook.size == 4
    assert result["5.weight"].coder == "fixed"
    for name in ("0.bias", "1.weight", "1.running_var", "1.num_batches_tracked", "3.bias"):
        assert torch.equal(result[name], before[name])

    fw.save_file(result, tmp_path / "a.fwt")
    loaded = fw.load_file(tmp_path / "a.fwt")
    for name, tensor in result.items():
        expected = tensor if isinstance(tensor, torch.Tensor) else torch.from_numpy(tensor.dequantize())
        assert torch.equal(loaded[name], expected)


def test_buffers_and_what_is_no_float_stay_raw():
    model = make_model()
    model.register_buffer("steps", torch.arange(50))
    model.register_buffer("small", torch.randn(30).to(torch.float8_e4m3fn))
    model.register_parameter(
        "eighth", nn.Parameter(torch.randn(30).to(torch.float8_e5m2), requires_grad=False)
    )
    before = snapshot(model)
    result = fw.compress(model, recipe_of(fw.Rule("*", fw.Prune(sparsity=0.5), fw.Quantize(bits=1))))
    raw = {name for name, tensor in result.items() if isinstance(tensor, torch.Tensor)}
    assert raw == {"1.running_mean", "1.running_var", "1.num_batches_tracked", "steps", "small", "eighth"}
    for name in raw:
        assert torch.equal(result[name].view(-1).view(torch.uint8), before[name].view(-1).view(torch.uint8))
    encoded = encode_state(model, recipe_of(fw.Rule("*", fw.Prune(sparsity=0.5), fw.Quantize(bits=1))))
    assert {name for name, tensor in encoded.items() if isinstance(tensor, torch.Tensor)} == raw


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(tmp_path, dtype):
    model = make_model(dtype)
    recipe = recipe_of(fw.Rule("3.weight", fw.Prune(sparsity=0.8), fw.Quantize(bits=4)))
    result = fw.compress(model, recipe)
    shared = result["3.weight"]
    assert shared.dtype == str(dtype).removeprefix("torch.")
    pruned = pruned_by_hand(model.state_dict()["3.weight"], 0.8)
    np.testing.assert_array_equal(shared.indices == 0, pruned == 0)
    values = shared.dequantize().astype(np.float64)
    assert np.square(values - pruned).mean() < 0.05 * np.square(pruned).mean()
    fw.save_file(result, tmp_path / "a.fwt")
    loaded = fw.load_model(make_model(dtype, seed=1), tmp_path / "a.fwt")
    assert loaded[3].weight.dtype == dtype
    np.testing.assert_array_equal(loaded[3].weight.detach().double().numpy(), values)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(9, 9, bias=False)
        self.second = nn.Linear(9, 9, bias=False)
        self.second.weight = self.first.weight

    def forward(self, inputs):
        return self.second(torch.tanh(self.first(inputs)))


@pytest.mark.parametrize("match", ["first.weight", "second.weight", "*.weight"])
def test_tied_weights_are_one_tensor_by_whichever_name(tmp_path, match):
    recipe = recipe_of(fw.Rule(match, fw.Prune(sparsity=0.5, scope="global"), fw.Quantize(bits=2)))
    model = Tied()
    result = fw.compress(model, recipe)
    assert result["first.weight"] is result["second.weight"]
    assert isinstance(result["first.weight"], fw.QuantizedTensor)
    assert (result["first.weight"].indices == 0).sum() == 40  # of 81, round(40.5)
    fw.save_file(result, tmp_path / "a.fwt")
    loaded = fw.load_model(Tied(), tmp_path / "a.fwt")
    assert loaded.first.weight is loaded.second.weight

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fw.prune(model, recipe, optimizer=optimizer)
    constraints = fw.share(model, recipe, optimizer=optimizer)
    assert list(constraints) == ["first.weight"]
    np.testing.assert_array_equal(model.first.weight.detach().numpy(), result["first.weight"].dequantize())


def test_the_first_rule_takes_a_tied_tensor():
    recipe = recipe_of(
        fw.Rule("second.weight", quantize=fw.Quantize(bits=3)),
        fw.Rule("first.weight", quantize=fw.Quantize(bits=1)),
    )
    assert fw.compress(Tied(), recipe)["first.weight"].codebook.size == 8


def test_a_lazy_negative_is_not_tied_to_its_origin():
    origin = torch.randn(4, dtype=torch.complex64)
    state = {"a": origin.imag, "b": origin.conj().imag}
    result = fw.compress(state, fw.Recipe())
    assert torch.equal(result["b"], -result["a"])


def test_a_trained_shared_model_is_encoded_as_it_is():
    model = make_model()
    recipe = recipe_of(fw.Rule("[035].weight", fw.Prune(sparsity=0.6), fw.Quantize(bits=4)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    fw.prune(model, recipe, optimizer=optimizer)
    fw.share(model, recipe, optimizer=optimizer)
    for step in range(5):
        optimizer.zero_grad()
        torch.manual_seed(step)
        model(torch.randn(8, 1, 8, 8)).square().sum().backward()
        optimizer.step()
    encoded = encode_state(model.state_dict(), recipe)
    for name, tensor in model.state_dict().items():
        values = encoded[name]
        if isinstance(values, fw.QuantizedTensor):
            assert values.codebook.size <= 16
            values = torch.from_numpy(values.dequantize())
        assert torch.equal(values, tensor)
    again = encode_state(
        {
            n: torch.from_numpy(t.dequantize()) if isinstance(t, fw.QuantizedTensor) else t
            for n, t in encoded.items()
        },
        recipe,
    )
    for name, tensor in again.items():
        if isinstance(tensor, fw.QuantizedTensor):
            np.testing.assert_array_equal(tensor.indices, encoded[name].indices)
            np.testing.assert_array_equal(tensor.codebook, encoded[name].codebook)


def test_compress_goes_to_the_end_of_a_schedule():
    schedule = fw.Schedule("stages", epochs=(0, 4, 9))
    recipe = recipe_of(fw.Rule("3.weight", fw.Prune(sparsity=(0.2, 0.5, 0.75), schedule=schedule)))
    weight = fw.compress(make_model(), recipe)["3.weight"]
    assert int((weight == 0).sum()) == 0.75 * weight.numel()


def test_a_rule_that_matches_nothing_names_the_tensors_there_are():
    recipe = recipe_of(fw.Rule("fc*", fw.Prune(sparsity=0.5)))
    for apply in (fw.compress, fw.prune, fw.share):
        with pytest.raises(fw.RecipeError, match=r"'fc\*' matches no tensor; there are: 0.weight, 0.bias"):
            apply(make_model(), recipe)


@pytest.mark.parametrize(
    "rule",
    [
        fw.Rule("3.weight", fw.Prune(sparsity=0.5)),
        fw.Rule("3.weight", fw.Prune(std=1.0)),
        fw.Rule("3.weight", quantize=fw.Quantize()),
    ],
)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused_by_name(rule, bad):
    model = make_model()
    with torch.no_grad():
        model[3].weight[2, 5] = bad
    before = snapshot(model)
    for apply in (fw.compress, fw.share if rule.prune is None else fw.prune):
        with pytest.raises(fw.TensorError, match=r"3\.weight: .*not finite"):
            apply(model, recipe_of(rule))
    assert before["3.weight"].isfinite().sum() == before["3.weight"].numel() - 1
    assert torch.equal(model[3].weight.isfinite(), before["3.weight"].isfinite())


# -- prune -----------------------------------------------------------------------------------------


def test_pruning_layer_by_layer():
    model = make_model()
    before = snapshot(model)
    fw.prune(model, recipe_of(fw.Rule("[035].weight", fw.Prune(sparsity=0.37))))
    for name, tensor in model.state_dict().items():
        if name in ("0.weight", "3.weight", "5.weight"):
            np.testing.assert_array_equal(tensor.double().numpy(), pruned_by_hand(before[name], 0.37))
        else:
            assert torch.equal(tensor, before[name])


def test_global_pruning_sorts_all_that_the_rule_matches():
    model = make_model()
    names = ["0.weight", "3.weight", "5.weight"]
    before = torch.cat([model.state_dict()[name].reshape(-1) for name in names])
    fw.prune(model, recipe_of(fw.Rule("[035].weight", fw.Prune(sparsity=0.7, scope="global"))))
    after = torch.cat([model.state_dict()[name].reshape(-1) for name in names])
    np.testing.assert_array_equal(after.double().numpy(), pruned_by_hand(before, 0.7))


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_pruning_by_standard_deviations(scope):
    model = make_model()
    names = ["0.weight", "3.weight", "5.weight"]
    before = {name: model.state_dict()[name].double().numpy() for name in names}
    fw.prune(model, recipe_of(fw.Rule("[035].weight", fw.Prune(std=0.8, scope=scope))))
    everything = np.concatenate([w.reshape(-1) for w in before.values()])
    for name, weight in before.items():
        threshold = 0.8 * np.std(everything if scope == "global" else weight)
        expected = np.where(np.abs(weight) < threshold, 0, weight)
        np.testing.assert_array_equal(model.state_dict()[name].double().numpy(), expected)


def test_exactly_as_many_are_removed_among_equals():
    model = nn.Linear(10, 10, bias=False)
    nn.init.constant_(model.weight, 0.5)
    fw.prune(model, recipe_of(fw.Rule("weight", fw.Prune(sparsity=0.33))))
    assert model.weight.reshape(-1).tolist() == [0] * 33 + [0.5] * 67


def random_batches(number, size=6):
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(size, 1, 8, 8, generator=generator), torch.randint(0, 3, (size,), generator=generator))
        for _ in range(number)
    ]


def test_epoch_by_epoch():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = fw.Schedule("iterative", start_epoch=1, prune_every=2, target_sparsity=0.8)
    recipe = recipe_of(fw.Rule("3.weight", fw.Prune(sparsity=0.4, schedule=schedule)))
    counts, masks = [], []
    for epoch, (inputs, targets) in enumerate(random_batches(9)):
        constraints = fw.prune(model, recipe, optimizer=optimizer, epoch=epoch)
        assert Constraints.attached_to(optimizer) is constraints
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        masks.append(constraints.mask("3.weight"))
        counts.append(int((model[3].weight == 0).sum()))
    fractions = [0, 0.4, 0.4, 1 - 0.6**2, 1 - 0.6**2, 1 - 0.6**3, 1 - 0.6**3, 0.8, 0.8]
    assert counts == [round(fraction * 12 * 144) for fraction in fractions]
    for earlier, later in pairwise(masks):
        assert not (later & ~earlier).any()


def opposite(name, weight, gradient):
    """Prunes the largest first, so that weights that are zero by now would be kept."""
    return -weight.abs()


def test_what_is_pruned_stays_pruned_whatever_the_importance():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    masks = []
    for fraction in (0.3, 0.6, 0.5):
        rule = fw.Rule("3.weight", fw.Prune(f"{__name__}.opposite", sparsity=fraction))
        masks.append(fw.prune(model, recipe_of(rule), optimizer=optimizer).mask("3.weight"))
    assert [int((~mask).sum()) for mask in masks] == [round(f * 12 * 144) for f in (0.3, 0.6, 0.6)]
    assert not (masks[1] & ~masks[0]).any()
    assert torch.equal(masks[1], masks[2])
    assert torch.equal(model[3].weight != 0, masks[2])


seen_gradients = {}


def remember_gradient(name, weight, gradient):
    seen_gradients[name] = None if gradient is None else gradient.clone()
    return weight.detach().abs()


def test_gradients_are_averaged_over_the_batches():
    model = make_model().eval()
    batches = random_batches(4)
    expected = torch.zeros_like(model[3].weight)
    for inputs, targets in batches:
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(inputs), targets), model[3].weight)
        expected += gradient / 4
    rule = fw.Rule("3.weight", fw.Prune(f"{__name__}.remember_gradient", sparsity=0.5))
    model[3].weight.grad = torch.ones_like(model[3].weight)  # left over; not to be counted
    fw.prune(model, recipe_of(rule), data=batches, loss=F.cross_entropy)
    torch.testing.assert_close(seen_gradients["3.weight"], expected)
    assert all(parameter.grad is None for parameter in model.parameters())  # not the next step's
    fw.prune(model, recipe_of(rule))
    assert seen_gradients["3.weight"] is None


def test_data_without_loss_or_batches():
    recipe = recipe_of(fw.Rule("3.weight", fw.Prune(sparsity=0.5)))
    with pytest.raises(TypeError, match="data and loss go together"):
        fw.prune(make_model(), recipe, data=random_batches(1))
    with pytest.raises(TypeError, match="data and loss go together"):
        fw.prune(make_model(), recipe, loss=F.cross_entropy)
    with pytest.raises(fw.TensorError, match="no batch"):
        fw.prune(make_model(), recipe, data=[], loss=F.cross_entropy)


# -- share -----------------------------------------------------------------------------------------


def test_share_after_prune_keeps_what_is_pruned():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    recipe = recipe_of(
        fw.Rule("3.weight", fw.Prune(sparsity=0.7), fw.Quantize(bits=3)),
        fw.Rule("0.weight", fw.Prune(sparsity=0.5)),
    )
    first = fw.prune(model, recipe, optimizer=optimizer)
    pruned = model[3].weight == 0
    second = fw.share(model, recipe, optimizer=optimizer)
    assert first is second
    assert second.is_shared("3.weight")
    assert not second.is_shared("0.weight")
    for inputs, targets in random_batches(5):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        assert torch.equal(model[3].weight == 0, pruned)
        assert int((model[0].weight == 0).sum()) == 18
        assert model[3].weight.unique().numel() <= 8
    quantized = second.quantized("3.weight")
    np.testing.assert_array_equal(quantized.dequantize(), model[3].weight.detach().numpy())


# -- one tensor at a time --------------------------------------------------------------------------


class Lazy(LazyTensors):
    """A state dict whose tensors are made anew whenever they are asked for."""

    def __init__(self, state):
        super().__init__(HeldTensors(state).specs, HeldTensors(state).owners)
        self.state = state
        self.asked = []

    def __getitem__(self, name):
        self.asked.append(name)
        return self.state[name].clone()


QUANTIZE = fw.Quantize(bits=3)


@pytest.mark.parametrize(
    "rule",
    [
        fw.Rule("*.weight", fw.Prune(sparsity=0.6), QUANTIZE),
        fw.Rule("*.weight", fw.Prune(sparsity=0.6, scope="global"), QUANTIZE),
        fw.Rule("*.weight", fw.Prune(std=0.9), QUANTIZE, fw.Code("fixed")),
        fw.Rule("*.weight", fw.Prune(std=0.9, scope="global"), QUANTIZE),
        fw.Rule("*.weight", fw.Prune(f"{__name__}.opposite", sparsity=0.3, scope="global")),
        fw.Rule("*.weight", quantize=QUANTIZE),
        fw.Rule("*.weight", fw.Prune("l1norm", "filter", 0.5), QUANTIZE),
        fw.Rule("*.weight", fw.Prune("l2norm", "kernel", 0.5, scope="global")),
        fw.Rule("*.weight", fw.Prune("magnitude", "channel", 0.5, scope="global", allow_empty=True)),
        fw.Rule("*.weight", fw.Prune(std=1.0, granularity="filter", scope="global", allow_empty=True)),
        fw.Rule("*.weight", fw.Prune("l1norm", "filter", threshold=2.0, allow_empty=True)),
        fw.Rule("*.weight", fw.Prune(count=100, scope="global")),
        fw.Rule("*.weight", fw.Prune("l1norm", "kernel", amounts={"0*": 2, "*": 0.5})),
        fw.Rule("*", fw.Prune(sparsity=0.6, biases=True)),
        fw.Rule("*", fw.Prune(sparsity=0.6, scope="global")),
    ],
)
def test_lazily_the_same_file_comes_out(tmp_path, rule):
    state = make_model().state_dict()
    state["tied.weight"] = state["3.weight"]
    recipe = recipe_of(rule)
    at_once = fw.compress(state, recipe)
    lazy = Lazy(state)
    lazily = fw.compress_lazily(lazy, recipe)
    assert lazy.asked == []
    assert list(lazily) == list(at_once)
    assert lazily.specs["3.weight"].shape == (12, 144)
    fw.save_file(at_once, tmp_path / "at_once.fwt")
    fw.save_file(lazily, tmp_path / "lazily.fwt")
    assert (tmp_path / "at_once.fwt").read_bytes() == (tmp_path / "lazily.fwt").read_bytes()
    assert "tied.weight" not in lazy.asked or "3.weight" not in lazy.asked


@pytest.mark.parametrize(
    "amount",
    [
        {"sparsity": 0.7},
        {"std": 0.8},
        {"sparsity": 0.4, "granularity": "filter", "importance": "l1norm"},
        {"count": 50, "granularity": "channel"},
        {"std": 1.0, "granularity": "kernel"},
        {"threshold": 0.1},
    ],
)
def test_global_pruning_in_passes_is_that_of_training(amount):
    rule = fw.Rule("[035].weight", fw.Prune(scope="global", allow_empty=True, **amount))
    model = make_model()
    lazily = fw.compress_lazily(Lazy(model.state_dict()), recipe_of(rule))
    fw.prune(model, recipe_of(rule))
    for name, tensor in model.state_dict().items():
        assert torch.equal(lazily[name], tensor)


@pytest.mark.parametrize("amount", [{"sparsity": 0.7}, {"std": 0.8}])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_lazily_what_is_not_finite_is_refused_by_name(tmp_path, amount, scope):
    state = make_model().state_dict()
    state["5.weight"][0, 0] = torch.nan
    rule = fw.Rule("[035].weight", fw.Prune(scope=scope, **amount))
    with pytest.raises(fw.TensorError, match=r"5\.weight: .*not finite"):
        fw.save_file(fw.compress_lazily(Lazy(state), recipe_of(rule)), tmp_path / "a.fwt")
    assert list(tmp_path.iterdir()) == []


def test_progress_tells_every_tensor_once():
    told = []
    fw.compress(Tied(), recipe_of(fw.Rule("*", quantize=QUANTIZE)), progress=told.append)
    assert told == ["first.weight"]
