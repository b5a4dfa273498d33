"""Every method through recipes: shared in training, compressed, stored and read back bit for bit."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import featherweight as fw
from featherweight.coding import CODER_CHOICES
from featherweight.compression import compress_lazily, encode_state
from featherweight.constraints import Constraints
from featherweight.quantization import fisher_diagonal, quantize_ecsq, round_to
from featherweight.training_steps import round_as_stored

METHODS = {
    "kmeans": fw.Quantize(bits=3, init="k-means++"),
    "optimal": fw.Quantize("optimal", 3),
    "ecsq": fw.Quantize("ecsq", 3, lagrangian=0.02, init="density"),
    "ecsq of outputs": fw.Quantize("ecsq", 3, lagrangian=0.02, init="density", rounding="outputs"),
    "uniform": fw.Quantize("uniform", 3),
    "uniform of 9 bits": fw.Quantize("uniform", 9),
    "fixed_point": fw.Quantize("fixed_point", 5, integer_bits=0),
    "fixed_point of 12 bits": fw.Quantize("fixed_point", 12),
    "ttq": fw.Quantize("ttq", float_ends=False),
    "per channel": fw.Quantize("uniform", 4, per_channel=True),
    "16-bit codebook": fw.Quantize(bits=3, init="density", codebook_dtype="float16"),
    "bfloat16 codebook": fw.Quantize(bits=4, init="optimal", codebook_dtype="bfloat16"),
    "relabelled": fw.Quantize(bits=3, init="density", update_labels=True),
    "quantized again": fw.Quantize("ecsq", 3, lagrangian=0.02, re_quantize=True),
}


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 20),
        nn.ReLU(),
        nn.Linear(20, 3),
    ).to(dtype)


def batches(count=2):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(16, 1, 6, 6, generator=generator), torch.randint(0, 3, (16,), generator=generator))
        for _ in range(count)
    ]


def weights_by(spec, **more):
    return fw.Recipe((fw.Rule("re:(0|4|6).weight", quantize=spec, **more),))


def train(model, optimizer, steps=3):
    for inputs, targets in batches(steps):
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()


@pytest.mark.parametrize("coder", CODER_CHOICES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_round_trips_through_every_coder(tmp_path, method, coder):
    compressed = fw.compress(network(), weights_by(METHODS[method], code=fw.Code(coder)))
    fw.save_file(compressed, tmp_path / "a.fwt")
    loaded = fw.load_file(tmp_path / "a.fwt")
    for name in ("0.weight", "4.weight", "6.weight"):
        assert isinstance(compressed[name], fw.QuantizedTensor)
        expected = compressed[name].dequantize()
        assert loaded[name].numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize("coder", CODER_CHOICES)
def test_a_codebook_of_many_values_goes_through_every_coder(tmp_path, coder):
    weights = torch.linspace(-1, 1, 140_000).reshape(350, 400)
    compressed = fw.compress(
        {"w": weights},
        fw.Recipe((fw.Rule("w", quantize=fw.Quantize("uniform", 16, fix_zeros=False), code=fw.Code(coder)),)),
    )
    assert compressed["w"].codebook.size == 65_536
    assert compressed["w"].indices.dtype == np.uint16
    fw.save_file(compressed, tmp_path / "a.fwt")
    loaded = fw.load_file(tmp_path / "a.fwt")["w"]
    assert loaded.numpy().tobytes() == compressed["w"].dequantize().tobytes()
    assert float((loaded - weights).abs().max()) <= 1.01 / 65_536


@pytest.mark.parametrize("method", METHODS)
def test_what_training_leaves_is_encoded_as_it_is(tmp_path, method):
    model = network()
    recipe = weights_by(METHODS[method], prune=fw.Prune(sparsity=0.5))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    fw.prune(model, recipe, optimizer=optimizer)
    zeros = {n: p.detach() == 0 for n, p in model.named_parameters() if n in ("0.weight", "4.weight")}
    fw.share(model, recipe, optimizer=optimizer)
    before = model[4].weight.detach().clone()
    train(model, optimizer, steps=5)
    if method != "fixed_point":  # whose steps of 1/32 such a small change may not pass
        assert not torch.equal(model[4].weight, before)
    for name, pruned in zeros.items():
        assert not dict(model.named_parameters())[name][pruned].any()
    round_as_stored(model, recipe)
    fw.save_file(encode_state(model, recipe), tmp_path / "a.fwt")
    loaded = fw.load_file(tmp_path / "a.fwt")
    for name, tensor in model.state_dict().items():
        assert loaded[name].contiguous().view(-1).view(torch.uint8).tolist() == (
            tensor.contiguous().view(-1).view(torch.uint8).tolist()
        ), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("method", ["kmeans", "optimal", "ecsq", "uniform", "fixed_point", "ttq"])
def test_other_dtypes(tmp_path, method, dtype):
    compressed = fw.compress(network(dtype).state_dict(), weights_by(METHODS[method]))
    fw.save_file(compressed, tmp_path / "a.fwt")
    loaded = fw.load_file(tmp_path / "a.fwt")["4.weight"]
    assert loaded.dtype == dtype
    values = torch.from_numpy(compressed["4.weight"].dequantize()).to(dtype)
    assert torch.equal(loaded, values)


# -- importance ------------------------------------------------------------------------------------


def test_fisher_importance_comes_from_the_data():
    spec = fw.Quantize("ecsq", 3, lagrangian=0.02, weights="fisher", init="density")
    model = network()
    weights = {
        n: p.detach().clone()
        for n, p in model.named_parameters()
        if n in ("0.weight", "4.weight", "6.weight")
    }
    fisher = fisher_diagonal(model, batches(), cross_entropy, list(weights))
    fw.share(model, weights_by(spec), data=batches(), loss=cross_entropy)
    h = {n: (f + 0.1 * f.double().mean()).double().numpy() for n, f in fisher.items()}
    power = np.concatenate([(h[n] * weights[n].double().numpy() ** 2).ravel() for n in weights]).mean()
    for name, weight in weights.items():
        expected = quantize_ecsq(weight.numpy(), 3, 0.02, h[name], "density", power=power)
        np.testing.assert_allclose(
            dict(model.named_parameters())[name].detach().numpy(), expected.dequantize(), rtol=1e-5
        )


def test_adams_moments_come_from_the_optimizer():
    recipe = weights_by(fw.Quantize(bits=2, weights="adam", init="density"))
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with pytest.raises(fw.RecipeError, match=r"0.weight: Adam has no second moments"):
        fw.share(model, recipe, optimizer=optimizer)
    train(model, optimizer)
    plain = network()
    plain.load_state_dict(model.state_dict())
    fw.share(model, recipe, optimizer=optimizer)
    fw.share(plain, weights_by(fw.Quantize(bits=2, init="density")))
    assert model[4].weight.unique().numel() == 3
    assert not torch.equal(model[4].weight, plain[4].weight)


def test_importance_without_data_is_an_error():
    fisher, adam = (weights_by(fw.Quantize(weights=w)) for w in ("fisher", "adam"))
    with pytest.raises(fw.RecipeError, match="fisher needs training data; give share data and loss"):
        fw.share(network(), fisher)
    with pytest.raises(fw.RecipeError, match="adam needs an optimizer"):
        fw.share(network(), adam)
    with pytest.raises(fw.RecipeError, match=r"weight: weights: fisher needs training data"):
        fw.compress(network(), fisher)


# -- what stays float, and how it is stored --------------------------------------------------------


def test_the_first_and_the_last_layer_stay_float_under_ttq():
    model = network()
    recipe = fw.Recipe((fw.Rule("*.weight", quantize=fw.Quantize("ttq")),))
    compressed = fw.compress(model.state_dict(), recipe)
    assert torch.equal(compressed["0.weight"], model[0].weight)
    assert torch.equal(compressed["6.weight"], model[6].weight)
    assert compressed["4.weight"].codebook.size == 3
    shared = fw.share(model, recipe)
    assert "0.weight" not in shared
    assert "6.weight" not in shared
    assert model[4].weight.unique().numel() == 3


@pytest.mark.parametrize(
    ("store", "fmt"),
    [
        (fw.Store(16), "float16"),
        (fw.Store(16, "bfloat16"), "bfloat16"),
        (fw.Store(8), "fixed_point"),
        (fw.Store(8, "float8_e5m2"), "float8_e5m2"),
    ],
)
def test_other_floats_are_rounded_where_a_rule_says_so(store, fmt):
    model = network()
    train(model, torch.optim.SGD(model.parameters(), lr=0.1))
    recipe = fw.Recipe(
        (fw.Rule("re:(0|4|6).weight", quantize=fw.Quantize(bits=2)), fw.Rule("*", store=store))
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    compressed = fw.compress(model, recipe)
    for name in ("0.bias", "1.weight", "1.running_var", "1.running_mean", "6.bias"):
        assert compressed[name].dtype == torch.float32
        assert torch.equal(compressed[name], round_to(before[name], fmt))
        assert not torch.equal(compressed[name], before[name]) or name == "1.weight"
    assert torch.equal(compressed["1.num_batches_tracked"], before["1.num_batches_tracked"])
    round_as_stored(model, recipe)
    encoded = encode_state(model, recipe)
    for name, tensor in model.state_dict().items():
        if isinstance(encoded[name], torch.Tensor):
            assert torch.equal(encoded[name], tensor)
    big = {"bias": torch.tensor([1e6])}
    with pytest.raises(fw.TensorError, match=r"bias: a value of 1e.06 is beyond float16's range"):
        fw.compress(big, fw.Recipe((fw.Rule("bias", store=fw.Store()),)))


# -- what is no weight -----------------------------------------------------------------------------


def test_integers_are_left_raw_and_said_once(caplog):
    state = {"w": torch.randn(20, 20), "steps": torch.arange(9), "flags": torch.ones(3, dtype=torch.bool)}
    with caplog.at_level(logging.WARNING):
        compressed = fw.compress(state, fw.Recipe((fw.Rule("*", quantize=fw.Quantize(bits=2)),)))
    assert torch.equal(compressed["steps"], state["steps"])
    assert len(caplog.messages) == 1
    assert "the rule for '*' leaves steps (int64), flags (bool) raw" in caplog.messages[0]


@pytest.mark.parametrize("how", [fw.compress, compress_lazily])
def test_integers_are_said_once_where_bits_are_chosen_first(caplog, how):
    state = {"w": torch.randn(20, 20), "steps": torch.arange(9)}
    rule = fw.Rule("*", quantize=fw.Quantize(bits="auto"))
    with caplog.at_level(logging.WARNING):
        how(state, fw.Recipe((rule,), budget=fw.Budget(mean_bits=6)))
    assert [message for message in caplog.messages if "steps (int64)" in message] == caplog.messages
    assert len(caplog.messages) == 1


def test_more_bits_than_bfloat16_holds_are_refused_by_name():
    state = {"w": torch.linspace(-1, 1, 5000).bfloat16()}
    for bits in (8, 16):
        recipe = fw.Recipe((fw.Rule("*", quantize=fw.Quantize("fixed_point", bits, integer_bits=1)),))
        if bits == 8:  # a sign and seven bits, as bfloat16 has them
            assert fw.compress(state, recipe)["w"].codebook.size <= 256
            continue
        with pytest.raises(fw.TensorError, match="w: bfloat16 cannot hold all 16-bit fixed-point numbers"):
            fw.compress(state, recipe)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_finite_is_named(method):
    state = network().state_dict()
    state["4.weight"][3, 5] = float("nan")
    with pytest.raises(fw.TensorError, match=r"4\.weight: .* not finite"):
        fw.compress(state, weights_by(METHODS[method]))


@pytest.mark.parametrize("method", METHODS)
def test_empty_and_hardly_any_weights(tmp_path, method):
    state = {"a": torch.zeros(0, 3), "b": torch.zeros(4, 4), "c": torch.tensor([[0.5, 0.0], [-0.25, 0.5]])}
    compressed = fw.compress(state, fw.Recipe((fw.Rule("*", quantize=METHODS[method]),)))
    fw.save_file(compressed, tmp_path / "a.fwt")
    loaded = fw.load_file(tmp_path / "a.fwt")
    for name, tensor in state.items():
        if name == "c" and method == "fixed_point":  # saturates at 15/32
            assert loaded[name].tolist() == [[15 / 32, 0.0], [-0.25, 15 / 32]]
        else:
            assert torch.equal(loaded[name], tensor), name


def test_labels_are_updated_between_epochs():
    from featherweight.rule_targets import rules_for
    from featherweight.sharing import relabel_rules

    for option in ("update_labels", "re_quantize"):
        model = network()
        recipe = weights_by(fw.Quantize(bits=3, init="density", **{option: True}))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        constraints = fw.share(model, recipe, optimizer=optimizer)
        assert isinstance(constraints, Constraints)
        before = constraints.latent("4.weight").indices.clone()
        train(model, optimizer, 4)
        assert torch.equal(constraints.latent("4.weight").indices, before)
        relabel_rules(rules_for(model, recipe), constraints)
        latent = constraints.latent("4.weight")
        assert not torch.equal(latent.indices, before)
        assert torch.equal(model[4].weight.detach(), latent.codebook[latent.indices])
        if option == "update_labels":
            wide = latent.shadow.double().reshape(-1, 1)
            nearest = 1 + (wide - latent.codebook[1:].double()).abs().argmin(dim=1)
            kept = latent.shadow.reshape(-1) != 0
            assert torch.equal(nearest[kept], latent.indices.reshape(-1)[kept])


def test_weights_take_their_values_in_stages_when_share_is_called_again():
    model = network()
    recipe = weights_by(fw.Quantize("optimal", 2, incremental=(0.5, 0.75, 1.0)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    weight = model[4].weight
    constraints = fw.share(model, recipe, optimizer=optimizer)
    for fraction in (0.5, 0.75):
        latent = constraints.latent("4.weight")
        assert latent.fraction == fraction
        before = weight.detach().clone()
        train(model, optimizer, 4)
        assert torch.equal(weight[latent.fixed], before[latent.fixed])
        assert not torch.equal(weight, before)
        assert fw.share(model, recipe, optimizer=optimizer) is constraints
    for _ in range(2):  # the second of these finds nothing left to do
        assert constraints.is_shared("4.weight")
        assert weight.unique().numel() <= 4
        train(model, optimizer, 4)
        fw.share(model, recipe, optimizer=optimizer)


def test_stages_can_be_cut_short_and_do_not_hide_weights_that_are_not_finite():
    model = network()
    recipe = weights_by(fw.Quantize("optimal", 2, incremental=[0.5, 0.75, 1]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    constraints = fw.share(model, recipe, optimizer=optimizer)
    fw.share(model, weights_by(fw.Quantize("optimal", 2)), optimizer=optimizer)
    assert constraints.is_shared("4.weight")

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    constraints = fw.share(model, recipe, optimizer=optimizer)
    latent = constraints.latent("4.weight")
    latent.shadow[~latent.fixed] = torch.nan
    with pytest.raises(fw.TensorError, match=r"4\.weight: the weights are not finite"):
        fw.share(model, recipe, optimizer=optimizer)
