"""Every importance and granularity by ``fw.prune`` on LeNet-300-100, LeNet-5 and a residual network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import featherweight as fw
from featherweight.models import LeNet5, LeNet300, ResNet20
from featherweight.pruning import GRANULARITIES, any_in_group
from featherweight.pruning.channels import METHODS as CHANNEL_METHODS
from quick_importances import OPTIONS


class Residual(nn.Module):
    """A residual block with a shortcut between a convolution and the classifier, as in a ResNet-20."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.conv1 = nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.shortcut = nn.Conv2d(4, 8, 1, stride=2, bias=False)
        self.fc = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu(self.bn(self.conv(images)))
        hidden = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps)))))
        return self.fc(F.relu(hidden + self.shortcut(maps)).mean((2, 3)))


#: Every importance with every granularity that it masks: ``sss`` has no scores of single weights
#: (test_factors.py), and some methods remove channels instead (tests/pruning/channels).
MASKED = [
    (name, granularity)
    for granularity in GRANULARITIES
    for name in OPTIONS
    if not (name == "sss" and granularity == "element")
    and not (name in CHANNEL_METHODS and granularity == "channel")
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def batches(number=2, size=16):
    generator = torch.Generator().manual_seed(5)
    return [
        (
            torch.randn(size, 1, 28, 28, generator=generator),
            torch.randint(0, 10, (size,), generator=generator),
        )
        for _ in range(number)
    ]


def recipe(match, importance, **more):
    return fw.Recipe((fw.Rule(match, fw.Prune(importance, **more)),))


@pytest.mark.parametrize(("name", "granularity"), MASKED)
@pytest.mark.parametrize(
    ("make", "match"), [(LeNet300, "fc[12].weight"), (LeNet5, "*1.weight"), (Residual, "conv*")]
)
def test_half_of_each_layer(make, match, name, granularity):
    torch.manual_seed(0)
    model = make()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    rules = recipe(match, name, granularity=granularity, sparsity=0.5, options=OPTIONS[name])
    constraints = fw.prune(model, rules, data=batches(), loss=F.cross_entropy)
    assert len(constraints) >= 2
    for layer in constraints:
        groups = any_in_group(constraints.mask(layer), granularity)
        assert int((~groups).sum()) == round(0.5 * groups.numel())
        weight = dict(model.named_parameters())[layer]
        assert torch.equal(weight == 0, ~constraints.mask(layer))
    for key, value in model.state_dict().items():
        if key not in constraints:
            assert torch.equal(value, before[key]), key  # statistics of batch norm included
    assert model.training


@pytest.mark.parametrize("name", ["l1norm", "l2norm"])
def test_norms_of_channels_remove_them_which_a_mask_cannot(name):
    with pytest.raises(fw.RecipeError, match=r"'conv\*' removes channels.*prune_channels_by"):
        fw.prune(Residual(), recipe("conv*", name, granularity="channel", sparsity=0.5))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"std": 1.0}, "got std"),
        ({"count": 3}, "got count"),
        ({"sparsity": 0.5, "threshold": 0.0}, "got threshold"),
        ({"sparsity": 1.0}, r"got 1\.0"),
        ({"sparsity": 0.5, "options": {"samples": 3}}, "l1norm has no options"),
    ],
)
def test_channels_are_removed_by_sparsity_alone(more, reason):
    with pytest.raises(fw.RecipeError, match=reason):
        fw.Prune("l1norm", granularity="channel", **more)


def test_the_network_learns_nothing_of_calibration_and_an_iterator_will_do():
    torch.manual_seed(0)
    model = Residual()
    rules = fw.Recipe(
        (
            fw.Rule("conv*", fw.Prune("taylor1", sparsity=0.5, options={"samples": 20})),
            fw.Rule("fc.weight", fw.Prune("taylor1", sparsity=0.5)),
        )
    )
    fw.prune(model, rules, data=iter(batches()), loss=F.cross_entropy)
    torch.manual_seed(0)
    other = Residual()
    fw.prune(other, rules, data=batches(), loss=F.cross_entropy)
    for (key, value), again in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, again), key
    assert all(p.grad is None for p in model.parameters())


def test_progress_is_told():
    told = []
    fw.prune(
        LeNet300(),
        recipe("fc3.weight", "taylor2", sparsity=0.5),
        data=batches(),
        loss=F.cross_entropy,
        progress=lambda what, done, total: told.append((what, done, total)),
    )
    assert told == [("Fisher information", 16, 32), ("Fisher information", 32, 32)]


def test_an_importance_without_its_data_is_told_with_the_remedy():
    model = LeNet300()
    rules = recipe("fc1.weight", "taylor1", sparsity=0.5)
    with pytest.raises(
        fw.RecipeError, match=r"'fc1.weight': importance taylor1 needs training data: call fw.prune"
    ):
        fw.prune(model, rules)
    for apply in (fw.compress, fw.compress_lazily):
        state = model.state_dict()
        with pytest.raises(
            fw.RecipeError, match=r"'fc1.weight' cannot be followed without data: .* fw.prune"
        ):
            apply(state, rules)
    with pytest.raises(fw.TensorError, match="no batch"):
        fw.prune(model, rules, data=[], loss=F.cross_entropy)
    with pytest.raises(fw.TensorError, match="no batch"):
        fw.prune(model, rules, data=iter([]), loss=F.cross_entropy)


def test_nothing_is_scored_that_is_not_pruned_further():
    """Before its first epoch, and once it is there, a schedule costs nothing."""
    told = []
    schedule = fw.Schedule("epochs", epochs=(1, 2), target_sparsity=0.3)
    rules = recipe("fc2.weight", "taylor1", sparsity=0.2, schedule=schedule)
    model = LeNet300()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    numbers = []
    for epoch in (0, 1, 1.5, 2, 3):
        told.clear()
        fw.prune(
            model, rules, data=batches(), loss=F.cross_entropy, optimizer=optimizer, epoch=epoch,
            progress=lambda *args: told.append(args),
        )  # fmt: skip
        numbers.append((len(told), int((model.fc2.weight == 0).sum())))
    assert numbers == [(0, 0), (2, 6000), (0, 6000), (2, 9000), (0, 9000)]


def test_what_taylor1_prunes_is_what_costs_least():
    """Of weights that the loss does not depend on, all go first."""
    torch.manual_seed(0)
    model = LeNet300()
    with torch.no_grad():
        model.fc3.weight[:, ::2] = 0  # half of the second layer feeds nothing
    constraints = fw.prune(
        model, recipe("fc2.weight", "taylor1", granularity="filter", sparsity=0.5), data=batches(),
        loss=F.cross_entropy,
    )  # fmt: skip
    gone = ~any_in_group(constraints.mask("fc2.weight"), "filter")
    assert gone.tolist() == [i % 2 == 0 for i in range(100)]


@pytest.mark.parametrize(
    ("name", "granularity"),
    [
        ("taylor1", "element"),
        ("taylor2", "kernel"),
        ("l1gate", "filter"),
        ("nisp", "filter"),
        ("nisp", "channel"),
        ("sss", "channel"),
        ("empirical", "filter"),
    ],
)
def test_resnet20(name, granularity):
    torch.manual_seed(0)
    model = ResNet20()
    generator = torch.Generator().manual_seed(5)
    data = [(torch.randn(8, 3, 32, 32, generator=generator), torch.arange(8))]
    match = "type:Conv2d" if name != "empirical" else "conv1.weight"
    rules = recipe(match, name, granularity=granularity, sparsity=0.5, options=OPTIONS[name])
    constraints = fw.prune(model, rules, data=data, loss=F.cross_entropy)
    for layer in constraints:
        groups = any_in_group(constraints.mask(layer), granularity)
        assert int((~groups).sum()) == round(0.5 * groups.numel())
