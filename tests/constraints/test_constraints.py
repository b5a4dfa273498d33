"""Masks and sharing against plain PyTorch: explicit codebooks, uninterrupted runs, brute force."""

import copy
import gc
import io
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import featherweight as fw
from featherweight.constraints import Constraints, Mask, Sharing


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads only slow such small networks down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "adam_loop": lambda p: torch.optim.Adam(p, lr=0.01, foreach=False),
    "adam_fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=0.1),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.01),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=4),
    "lbfgs_wolfe": lambda p: torch.optim.LBFGS(p, max_iter=4, line_search_fn="strong_wolfe"),
}


def make_model(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(13, 17), nn.Tanh(), nn.Linear(17, 5)).to(dtype)


def make_batch(seed=1, size=32, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 13, generator=generator).to(dtype)
    return inputs, torch.randint(0, 5, (size,), generator=generator)


def make_mask(shape, seed=2):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.4


def make_shared(shape, clusters=6, seed=3, dtype=np.float32):
    generator = np.random.default_rng(seed)
    indices = generator.integers(0, clusters, shape).astype(np.uint8 if clusters <= 256 else np.uint16)
    codebook = generator.normal(size=clusters).astype(dtype)
    codebook[0] = 0
    return fw.QuantizedTensor(indices, codebook)


def train(model, optimizer, steps, accumulate=1, start=0):
    """Every step on a batch of its own, through a closure as LBFGS wants it."""
    for step in range(start, start + steps):

        def closure(step=step):
            optimizer.zero_grad()
            for part in range(accumulate):
                inputs, targets = make_batch(seed=100 + step * accumulate + part)
                loss = F.cross_entropy(model(inputs), targets) / accumulate
                loss.backward()
            return loss

        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


def bits(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def assert_shared(weight, indices, fixed_zero):
    """Every cluster holds one bit pattern, cluster 0 that of +0 if it is fixed."""
    flat, clusters = weight.detach().contiguous().reshape(-1).numpy(), indices.reshape(-1)
    patterns = flat.view(f"u{flat.itemsize}")
    for cluster in np.unique(clusters):
        assert np.unique(patterns[clusters == cluster]).size == 1, cluster
    if fixed_zero:
        assert not patterns[clusters == 0].any()


# -- masks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_optimizer_revives_a_pruned_weight(name):
    model = make_model()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, 4)  # momentum builds up
    keys = list(model.state_dict())
    keep = make_mask(model[0].weight.shape)
    constraints = Constraints(model).attach(optimizer)
    constraints.set_mask("0.weight", keep)
    assert not model[0].weight[~keep].any()
    before = model[0].weight.detach().clone()
    for step in range(6):
        train(model, optimizer, 1, start=4 + step)
        assert not bits(model[0].weight[~keep]).any()
    assert (model[0].weight[keep] != before[keep]).all()
    assert torch.isfinite(model[0].weight).all()
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize("name", ["nesterov", "adam", "adamw", "rmsprop"])
def test_pruned_weights_have_no_state(name):
    model = make_model()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, 3)
    keep = make_mask(model[0].weight.shape)
    state = optimizer.state[model[0].weight]
    before = {key: value.clone() for key, value in state.items() if value.shape == keep.shape}
    Constraints(model).attach(optimizer).set_mask("0.weight", keep)
    assert before
    for key, value in before.items():
        assert torch.equal(state[key], torch.where(keep, value, 0))
    train(model, optimizer, 3, start=3)
    for key in before:
        assert not state[key][~keep].any()


@pytest.mark.parametrize("name", ["nesterov", "adamw"])
def test_loading_an_old_optimizer_state_revives_nothing(name):
    model = make_model()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, 4)
    old = copy.deepcopy(optimizer.state_dict())
    keep = make_mask(model[0].weight.shape)
    constraints = Constraints(model).attach(optimizer)
    constraints.set_mask("0.weight", keep)
    constraints.set_sharing("2.weight", make_shared(model[2].weight.shape), fixed_zero=True)
    optimizer.load_state_dict(old)
    loaded = [v for v in optimizer.state[model[0].weight].values() if v.shape == keep.shape]
    assert loaded
    assert all(v[keep].any() and not v[~keep].any() for v in loaded)
    indices = constraints.quantized("2.weight").indices
    for step in range(4):
        train(model, optimizer, 1, start=4 + step)
        assert not model[0].weight[~keep].any()
        assert_shared(model[2].weight, indices, fixed_zero=True)


def test_a_mask_zeroes_gradients_that_are_not_finite():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    keep = make_mask(model[0].weight.shape)
    Constraints(model).attach(optimizer).set_mask("0.weight", keep)
    before = model[0].weight.detach().clone()
    model[0].weight.grad = torch.where(keep, torch.ones(()), torch.tensor(torch.nan))
    optimizer.step()
    torch.testing.assert_close(model[0].weight.detach(), torch.where(keep, before - 0.1, 0))


def test_a_second_mask_replaces_the_first():
    model = make_model()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    constraints = Constraints(model).attach(optimizer)
    first, second = make_mask((17, 13), 5), make_mask((17, 13), 6)
    constraints.set_mask("0.weight", first)
    constraints.set_mask("0.weight", first & second)
    train(model, optimizer, 3)
    assert torch.equal(model[0].weight != 0, first & second)
    assert torch.equal(constraints.mask("0.weight"), first & second)


def test_a_mask_is_a_copy():
    model = make_model()
    keep = torch.ones(17, 13, dtype=torch.bool)
    constraints = Constraints(model)
    constraints.set_mask("0.weight", keep)
    keep.zero_()
    constraints.constrain_weights()
    assert model[0].weight.all()


# -- sharing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fixed_zero", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_shared_weights_stay_bitwise_equal(name, fixed_zero):
    model = make_model()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, 2)  # what the optimizer knows of single weights must not matter
    keys = list(model.state_dict())
    shared = make_shared(model[0].weight.shape)
    Constraints(model).attach(optimizer).set_sharing("0.weight", shared, fixed_zero=fixed_zero)
    before = model[0].weight.detach().clone()
    np.testing.assert_array_equal(before.numpy(), shared.dequantize())
    for step in range(22):
        train(model, optimizer, 1, accumulate=2, start=2 + step)
        assert_shared(model[0].weight, shared.indices, fixed_zero)
    assert torch.isfinite(model[0].weight).all()
    moves = torch.from_numpy(shared.indices != 0) if fixed_zero else torch.ones(17, 13, dtype=torch.bool)
    assert (model[0].weight[moves] != before[moves]).all()
    assert list(model.state_dict()) == keys


class Codebook(nn.Module):
    """The same network with its shared weight spelt out as codebook[indices]."""

    def __init__(self, model, shared, fixed_zero):
        super().__init__()
        self.rest = copy.deepcopy(model)
        self.indices = torch.from_numpy(shared.indices.astype(np.int64))
        self.codebook = nn.Parameter(torch.from_numpy(shared.codebook.copy()).to(model[0].weight.dtype))
        self.alive = torch.ones_like(self.codebook)
        if fixed_zero:
            self.alive[0] = 0

    def weight(self):
        return (self.codebook * self.alive)[self.indices]

    def forward(self, inputs):
        hidden = torch.tanh(F.linear(inputs, self.weight(), self.rest[0].bias))
        return self.rest[2](hidden)

    def trained(self):
        return [self.codebook, self.rest[0].bias, *self.rest[2].parameters()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fixed_zero", [False, True])
def test_centroid_gradients_are_the_papers_sum(fixed_zero, dtype):
    model = make_model(dtype=dtype)
    shared = make_shared((17, 13), dtype=np.float32 if dtype == torch.float32 else np.float64)
    oracle = Codebook(model, shared, fixed_zero)
    constraints = Constraints(model)
    constraints.set_sharing("0.weight", shared, fixed_zero=fixed_zero)
    inputs, targets = make_batch(dtype=dtype)
    F.cross_entropy(model(inputs), targets).backward()
    F.cross_entropy(oracle(inputs), targets).backward()
    constraints.constrain_gradients()
    torch.testing.assert_close(model[0].weight.grad, oracle.codebook.grad[oracle.indices])


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("fixed_zero", [False, True])
@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "nadam"])
def test_training_is_that_of_an_explicit_codebook(name, fixed_zero, accumulate):
    model = make_model(dtype=torch.float64)
    shared = make_shared((17, 13), dtype=np.float64)
    oracle = Codebook(model, shared, fixed_zero)
    optimizer = OPTIMIZERS[name](model.parameters())
    reference = OPTIMIZERS[name](oracle.trained())
    Constraints(model).attach(optimizer).set_sharing("0.weight", shared, fixed_zero=fixed_zero)
    for step in range(8):
        for network, its_optimizer in ((model, optimizer), (oracle, reference)):
            its_optimizer.zero_grad()
            for part in range(accumulate):
                inputs, targets = make_batch(seed=step * accumulate + part, dtype=torch.float64)
                F.cross_entropy(network(inputs), targets).backward()
            its_optimizer.step()
        torch.testing.assert_close(model[0].weight, oracle.weight(), rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(model[2].weight, oracle.rest[2].weight, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "name", ["momentum", "adam", "adamw", "rmsprop", "nadam", "adagrad", "rprop", "asgd"]
)
def test_sharing_late_is_like_sharing_with_a_fresh_optimizer(name):
    model = make_model()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, 30)
    fresh_model = copy.deepcopy(model)
    fresh = OPTIMIZERS[name](fresh_model.parameters())
    shared = make_shared((17, 13))
    Constraints(model).attach(optimizer).set_sharing("0.weight", shared, fixed_zero=True)
    Constraints(fresh_model).attach(fresh).set_sharing("0.weight", shared, fixed_zero=True)
    train(model, optimizer, 1, start=30)
    train(fresh_model, fresh, 1, start=30)
    torch.testing.assert_close(model[0].weight, fresh_model[0].weight)


def test_lbfgs_forgets_the_directions_of_pruned_weights():
    model = make_model()
    optimizer = OPTIMIZERS["lbfgs"](model.parameters())
    train(model, optimizer, 3)
    keep = make_mask((17, 13))
    Constraints(model).attach(optimizer).set_mask("0.weight", keep)
    seen = []

    def closure():
        seen.append(bool(model[0].weight[~keep].any()))
        optimizer.zero_grad()
        inputs, targets = make_batch()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert len(seen) >= 4
    assert not any(seen)  # not even between the iterations of one step


def test_more_than_256_clusters():
    model = nn.Linear(40, 50, bias=False)
    shared = make_shared((50, 40), clusters=700)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    constraints = Constraints(model).attach(optimizer)
    constraints.set_sharing("weight", shared, fixed_zero=True)
    assert constraints.state_dict()["weight"]["indices"].dtype == torch.int32
    gradient = torch.randn(50, 40)
    before = model.weight.detach().clone()
    sums = np.bincount(
        shared.indices.reshape(-1), weights=gradient.double().numpy().reshape(-1), minlength=700
    )
    sums[0] = 0
    model.weight.grad = gradient.clone()
    optimizer.step()
    expected = before.numpy() - 0.1 * sums[shared.indices]
    np.testing.assert_allclose(model.weight.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    assert_shared(model.weight, shared.indices, fixed_zero=True)
    result = constraints.quantized("weight")
    assert result.indices.dtype == np.uint16
    np.testing.assert_array_equal(result.indices, shared.indices)
    np.testing.assert_array_equal(result.dequantize(), model.weight.detach().numpy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes_agree_with_the_kernels(dtype):
    """Values that all the dtypes hold exactly, so that the results are the same to the bit."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randint(-8, 9, (9, 11), generator=generator).float() / 4
    shared = make_shared((9, 11))
    codebook = np.array([0, 1, -2, 0.5, 3, -0.25], np.float32)
    shared = fw.QuantizedTensor(shared.indices, codebook)
    keep = make_mask((9, 11))
    results = []
    for kind in (torch.float32, dtype):
        layer = nn.Linear(11, 9, bias=False).to(kind)
        constraints = Constraints(layer)
        layer.weight.grad = gradient.to(kind, copy=True)
        constraints.set_sharing("weight", shared, fixed_zero=True)
        constraints.constrain_gradients()
        shared_gradient = layer.weight.grad.clone()
        with torch.no_grad():
            layer.weight += 0.5
        constraints.constrain_weights()
        shared_weight = layer.weight.detach().clone()
        constraints.set_mask("weight", keep)
        layer.weight.grad = gradient.to(kind, copy=True)
        constraints.constrain_gradients()
        results.append([shared_gradient, shared_weight, layer.weight.detach(), layer.weight.grad])
    for fast, fallback in zip(*results, strict=True):
        assert torch.equal(fast.double(), fallback.double())
    sums = np.bincount(shared.indices.reshape(-1), weights=gradient.numpy().reshape(-1), minlength=6)
    sums[0] = 0
    np.testing.assert_array_equal(results[1][0].float().numpy(), sums[shared.indices])


def test_quantized_bfloat16_weights():
    layer = nn.Linear(11, 9, bias=False).bfloat16()
    constraints = Constraints(layer)
    constraints.set_sharing("weight", make_shared((9, 11)), fixed_zero=True)
    result = constraints.quantized("weight")
    assert result.dtype == "bfloat16"
    np.testing.assert_array_equal(result.dequantize(), layer.weight.detach().float().numpy())


@pytest.mark.parametrize("kind", ["mask", "sharing"])
def test_channels_last_weights(kind):
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 6, 3, bias=False)
    strided = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    assert not strided.weight.is_contiguous()
    shared, keep, image = make_shared((6, 4, 3, 3)), make_mask((6, 4, 3, 3)), torch.randn(2, 4, 8, 8)
    for layer, inputs in ((plain, image), (strided, image.to(memory_format=torch.channels_last))):
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.001, momentum=0.9)
        constraints = Constraints(layer).attach(optimizer)
        if kind == "mask":
            constraints.set_mask("weight", keep)
        else:
            constraints.set_sharing("weight", shared, fixed_zero=True)
        for _ in range(4):
            optimizer.zero_grad()
            layer(inputs).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(plain.weight, strided.weight)
    if kind == "mask":
        assert not strided.weight[~keep].any()
        assert strided.weight[keep].all()
    else:
        assert_shared(strided.weight, shared.indices, fixed_zero=True)


def test_empty_clusters_and_empty_weights():
    layer = nn.Linear(3, 2, bias=False)
    constraints = Constraints(layer)
    indices = np.array([[1, 1, 4], [4, 1, 4]], np.uint8)
    constraints.set_sharing(
        "weight", fw.QuantizedTensor(indices, np.arange(6, dtype=np.float32)), fixed_zero=True
    )
    layer.weight.grad = torch.arange(6.0).reshape(2, 3)
    constraints.constrain_gradients()
    assert layer.weight.grad.tolist() == [[5, 5, 10], [10, 5, 10]]
    assert constraints.quantized("weight").codebook.tolist() == [0, 1, 0, 0, 4, 0]

    holder = nn.Module()
    holder.weight = nn.Parameter(torch.empty(0, 4))
    empty = Constraints(holder)
    empty.set_sharing(
        "weight", fw.QuantizedTensor(np.empty((0, 4), np.uint8), np.zeros(1, np.float32)), fixed_zero=True
    )
    empty.set_mask("weight", torch.empty(0, 4, dtype=torch.bool))
    assert empty.mask("weight").shape == (0, 4)


# -- closures, optimizers, attaching ---------------------------------------------------------------


@pytest.mark.parametrize("style", ["positional", "keyword"])
@pytest.mark.parametrize("name", ["momentum", "lbfgs"])
def test_a_closure_is_called_as_often_as_without_constraints(name, style):
    calls = {}
    for constrained in (False, True):
        model = make_model()
        optimizer = OPTIMIZERS[name](model.parameters())
        shared = make_shared((17, 13))
        if constrained:
            Constraints(model).attach(optimizer).set_sharing("0.weight", shared, fixed_zero=True)
        losses = []

        def closure(model=model, optimizer=optimizer, losses=losses):
            optimizer.zero_grad()
            inputs, targets = make_batch()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            losses.append(loss.item())
            return loss

        returned = optimizer.step(closure) if style == "positional" else optimizer.step(closure=closure)
        assert returned.item() == losses[0]
        calls[constrained] = len(losses)
        if constrained:
            assert_shared(model[0].weight, shared.indices, fixed_zero=True)
    assert calls[True] == calls[False] == (1 if name == "momentum" else 4)


def test_a_closure_gives_the_step_that_a_loop_gives():
    results = []
    for use_closure in (False, True):
        model = make_model()
        optimizer = OPTIMIZERS["momentum"](model.parameters())
        Constraints(model).attach(optimizer).set_sharing("0.weight", make_shared((17, 13)), fixed_zero=True)
        for step in range(3):

            def closure(model=model, optimizer=optimizer, step=step):
                optimizer.zero_grad()
                inputs, targets = make_batch(step)
                loss = F.cross_entropy(model(inputs), targets)
                loss.backward()
                return loss

            if use_closure:
                optimizer.step(closure)
            else:
                closure()
                optimizer.step(None)
        results.append(model[0].weight.detach())
    assert torch.equal(*results)


def test_attaching_twice_is_the_same_as_once():
    results = []
    for times in (1, 3):
        model = make_model()
        optimizer = OPTIMIZERS["momentum"](model.parameters())
        constraints = Constraints(model)
        for _ in range(times):
            assert constraints.attach(optimizer) is constraints
        constraints.set_sharing("0.weight", make_shared((17, 13)), fixed_zero=True)
        train(model, optimizer, 3)
        results.append(model[0].weight.detach())
    assert torch.equal(*results)


def test_constraints_of_another_object_are_replaced():
    model = make_model()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    first, second = Constraints(model), Constraints(model)
    first.attach(optimizer).set_mask("0.weight", make_mask((17, 13)))
    second.attach(optimizer)
    assert Constraints.attached_to(optimizer) is second
    train(model, optimizer, 2)
    assert model[0].weight.all()


def test_detach():
    model = make_model()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    keep = make_mask((17, 13))
    constraints = Constraints(model).attach(optimizer)
    constraints.set_mask("0.weight", keep)
    constraints.detach()
    assert Constraints.attached_to(optimizer) is None
    assert not model[0].weight[~keep].any()
    train(model, optimizer, 1)
    assert model[0].weight.all()


def test_two_optimizers_on_disjoint_parameters():
    model = make_model()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1, momentum=0.9)
    second = torch.optim.Adam(model[2].parameters(), lr=0.01)
    keep, shared = make_mask((17, 13)), make_shared((5, 17))
    constraints = Constraints(model).attach(first).attach(second)
    constraints.set_mask("0.weight", keep)
    constraints.set_sharing("2.weight", shared, fixed_zero=True)
    inputs, targets = make_batch()
    F.cross_entropy(model(inputs), targets).backward()
    gradient = model[2].weight.grad.clone()
    first.step()
    assert torch.equal(model[2].weight.grad, gradient)  # the second optimizer's are its own business
    second.step()
    train(model, first, 2)
    train(model, second, 2)
    assert not model[0].weight[~keep].any()
    assert_shared(model[2].weight, shared.indices, fixed_zero=True)

    constraints.detach(first)
    assert Constraints.attached_to(first) is None
    assert Constraints.attached_to(second) is constraints
    train(model, first, 1)
    train(model, second, 1)
    assert model[0].weight.all()
    assert_shared(model[2].weight, shared.indices, fixed_zero=True)


def test_an_optimizer_and_its_constraints_are_freed_together():
    model = make_model()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    constraints = Constraints(model).attach(optimizer)
    gone = [weakref.ref(optimizer), weakref.ref(constraints), weakref.ref(model)]
    del constraints
    gc.collect()
    assert Constraints.attached_to(optimizer) is gone[1]()  # the optimizer keeps them
    assert gone[1]() is not None
    del optimizer, model
    gc.collect()
    assert [reference() for reference in gone] == [None, None, None]


def test_parameters_without_a_gradient_are_left_alone():
    model = make_model()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    Constraints(model).attach(optimizer).set_sharing("0.weight", make_shared((17, 13)), fixed_zero=True)
    before = model[0].weight.detach().clone()
    optimizer.step()
    assert torch.equal(model[0].weight, before)


def test_a_sparse_gradient_is_refused_by_name():
    model = nn.Sequential(nn.Embedding(6, 3, sparse=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Constraints(model).attach(optimizer).set_mask("0.weight", torch.ones(6, 3, dtype=torch.bool))
    model(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(fw.TensorError, match=r"0\.weight: a sparse gradient"):
        optimizer.step()


# -- mixed precision -------------------------------------------------------------------------------


@pytest.mark.parametrize("scaled", [False, True])
def test_mixed_precision(scaled):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    keep, shared = make_mask((17, 13)), make_shared((5, 17))
    constraints = Constraints(model).attach(optimizer)
    constraints.set_mask("0.weight", keep)
    constraints.set_sharing("2.weight", shared, fixed_zero=True)
    scaler = torch.amp.GradScaler("cpu", enabled=scaled, init_scale=1024.0)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        inputs, targets = make_batch()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(inputs), targets)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
        assert not model[0].weight[~keep].any()
        assert_shared(model[2].weight, shared.indices, fixed_zero=True)
    assert losses[-1] < 0.7 * losses[0]


def test_a_step_that_the_scaler_skips_changes_nothing():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    Constraints(model).attach(optimizer).set_sharing("0.weight", make_shared((17, 13)), fixed_zero=True)
    before = model[0].weight.detach().clone()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((model(make_batch()[0]) * torch.inf).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(model[0].weight, before)
    assert scaler.get_scale() == 512.0


# -- checkpoints -----------------------------------------------------------------------------------


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def constrained_model(name):
    model = make_model()
    optimizer = OPTIMIZERS[name](model.parameters())
    constraints = Constraints(model).attach(optimizer)
    return model, optimizer, constraints


@pytest.mark.parametrize("order", ["attach last", "attach first", "constraints first"])
@pytest.mark.parametrize("name", ["nesterov", "adamw", "lbfgs"])
def test_a_resumed_run_goes_on_exactly(name, order):
    model, optimizer, constraints = constrained_model(name)
    train(model, optimizer, 2)
    constraints.set_mask("0.weight", make_mask((17, 13)))
    constraints.set_sharing("2.weight", make_shared((5, 17)), fixed_zero=True)
    train(model, optimizer, 5, start=2)
    saved = through_a_file(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "constraints": constraints.state_dict(),
        }
    )
    train(model, optimizer, 5, start=7)

    resumed = make_model(seed=9)
    resumed.load_state_dict(saved["model"])
    second = OPTIMIZERS[name](resumed.parameters())
    taken_up = Constraints(resumed)
    if order == "attach first":
        taken_up.attach(second)
    if order == "constraints first":
        taken_up.load_state_dict(saved["constraints"])
        taken_up.attach(second)
        second.load_state_dict(saved["optimizer"])
    else:
        second.load_state_dict(saved["optimizer"])
        taken_up.load_state_dict(saved["constraints"])
        taken_up.attach(second, resume=True)
    train(resumed, second, 5, start=7)
    for key, value in model.state_dict().items():
        assert torch.equal(bits(value), bits(resumed.state_dict()[key])), key


def test_a_saved_state_is_not_changed_by_going_on():
    model, optimizer, constraints = constrained_model("momentum")
    keep = make_mask((17, 13))
    constraints.set_mask("0.weight", keep)
    state = constraints.state_dict()
    constraints.set_mask("0.weight", torch.zeros_like(keep))
    train(model, optimizer, 1)
    assert torch.equal(state["0.weight"]["keep"], keep)


def test_state_of_one_kind():
    model, _, constraints = constrained_model("momentum")
    constraints.set_mask("0.weight", make_mask((17, 13)))
    constraints.set_sharing("2.weight", make_shared((5, 17)), fixed_zero=True)
    assert list(constraints.state_dict(Mask)) == ["0.weight"]
    assert list(constraints.state_dict(Sharing)) == ["2.weight"]
    assert list(constraints.state_dict()) == list(constraints) == ["0.weight", "2.weight"]
    assert len(constraints) == 2
    assert "0.weight" in constraints
    assert "0.bias" not in constraints
    assert constraints.is_shared("2.weight")
    assert not constraints.is_shared("0.weight")
    assert constraints.mask("0.bias") is None
    assert constraints.quantized("0.weight") is None
    assert torch.equal(constraints.mask("2.weight"), model[2].weight != 0)


def test_wrong_names_and_shapes_are_refused():
    constraints = Constraints(make_model())
    with pytest.raises(fw.TensorError, match=r"7\.weight: the model has no such parameter"):
        constraints.set_mask("7.weight", torch.ones(3))
    with pytest.raises(fw.TensorError, match=r"0\.weight: expected shape \(17, 13\), got \(13, 17\)"):
        constraints.set_mask("0.weight", torch.ones(13, 17))
    with pytest.raises(fw.TensorError, match=r"0\.weight: expected shape \(17, 13\), got \(3,\)"):
        constraints.set_sharing("0.weight", make_shared((3,)), fixed_zero=True)
    assert len(constraints) == 0


def saved_sharing(**changes):
    constraints = Constraints(make_model())
    constraints.set_sharing("0.weight", make_shared((17, 13)), fixed_zero=True)
    return {**constraints.state_dict()["0.weight"], **changes}


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("7.weight", {"keep": torch.ones(3, dtype=torch.bool)}, "the model has no such parameter"),
        (
            "0.weight",
            {"keep": torch.ones(3, dtype=torch.bool)},
            r"shape \(3,\), the model has shape \(17, 13\)",
        ),
        ("0.weight", {"keep": torch.ones(17, 13)}, "damaged"),
        ("0.weight", {"keep": torch.ones(17, 13, dtype=torch.bool), "other": 1}, "no mask and no clusters"),
        ("0.weight", {"values": 3}, "no mask and no clusters"),
        ("0.weight", saved_sharing(indices=torch.full((17, 13), 6, dtype=torch.uint8)), "damaged"),
        ("0.weight", saved_sharing(indices=torch.zeros(17, 13)), "damaged"),
        ("0.weight", saved_sharing(members=torch.zeros(5, dtype=torch.int64)), "damaged"),
        ("0.weight", saved_sharing(members=torch.full((6,), 17 * 13)), "damaged"),
        ("0.weight", saved_sharing(members=torch.full((6,), -2)), "damaged"),
        ("0.weight", saved_sharing(codebook_size=300), "damaged"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(name, fields, message):
    constraints = Constraints(make_model())
    keep = make_mask((5, 17))
    with pytest.raises(fw.CheckpointError, match=f"{name}.*{message}"):
        constraints.load_state_dict({"2.weight": {"keep": keep}, name: fields})
    assert len(constraints) == 0
