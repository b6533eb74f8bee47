"""The parts of airbench's recipe: whitening, Dirac weights, its schedule and groups."""

import math

import numpy as np
import pytest

import fastcnn
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers import init
from fastcnn.optim import Lookahead, MultiStep, Triangular, learning_rates
from fastcnn.recipes import get
from tests.recipes.test_recipes import pictures


def test_whitening() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3, 9, 9)) @ rng.normal(size=(9, 9)) + 0.3
    filters = init.whitening_filters(x, 2, eps=1e-9)
    assert filters.shape == (24, 3, 2, 2)
    np.testing.assert_array_equal(filters[12:], -filters[:12])
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(2, 3))
    out = np.einsum("nchwyx,kcyx->knhw", windows, filters[:12]).reshape(12, -1)
    np.testing.assert_allclose(out @ out.T / out.shape[1], np.eye(12), atol=1e-5)
    # The largest eigenvalue comes first: its filter is the smallest.
    norms = np.linalg.norm(filters[:12].reshape(12, -1), axis=1)
    assert (np.diff(norms) > 0).all()
    with pytest.raises(ConfigurationError, match="at least 3 x 3 pixels"):
        init.whitening_filters(np.zeros((1, 3, 2, 2)), 3)


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (3, 5, 3, 3), (4, 2, 5)])
def test_dirac(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    weight = init.Dirac()(shape, np.random.default_rng(0))
    count = min(shape[:2])
    expected = torch.nn.init.dirac_(torch.empty(count, *shape[1:])).numpy()
    np.testing.assert_array_equal(weight[:count], expected)
    drawn = init.DEFAULT_WEIGHT(shape, np.random.default_rng(0))
    np.testing.assert_array_equal(weight[count:], drawn[count:])
    with pytest.raises(ConfigurationError, match="Dirac"):
        init.Dirac()((3, 3), np.random.default_rng(0))


def test_network() -> None:
    model = fastcnn.models.airbench(seed=0, unit_head=True)
    named = model.named_parameters()
    assert model.num_parameters == 1_971_641
    assert named["head.weight"].std(ddof=1) == pytest.approx(1.0)
    assert [named[f"conv{k}.weight"].shape[0] for k in range(1, 7)] == [64, 64] + [256] * 4
    assert not named["whiten.bias"].any()
    assert "norm1.weight" not in named
    recipe, grey = get("cifar10-94"), pictures(20, (1, 32, 32))
    with pytest.raises(ConfigurationError, match=r"whiten\.weight has shape"):
        recipe.make_model(grey)


@pytest.mark.parametrize("size", [24, 25, 28, 48, 49])
def test_other_images(size: int) -> None:
    if size in (24, 49):
        with pytest.raises(ShapeError):
            fastcnn.models.airbench(seed=0, input_shape=(1, size, 30))
        return
    model = fastcnn.models.airbench(5, seed=0, input_shape=(1, size, 30))
    assert model.named_parameters()["whiten.weight"].shape == (8, 1, 2, 2)
    assert model(np.zeros((2, 1, size, 30), np.float32)).shape == (2, 5)


def test_whitened_model() -> None:
    recipe = get("cifar10-94")
    data = recipe.prepared(pictures(40, (3, 32, 32)))
    model = recipe.make_model(data, seed=1)
    expected = init.whitening_filters(data.preprocessing.apply(data.images))
    np.testing.assert_allclose(
        model.named_parameters()["whiten.weight"], expected, rtol=1e-5, atol=1e-6
    )


def test_published_numbers() -> None:
    o = get("cifar10-94").options
    k = 1024 * (1 + 1 / (1 - 0.85))
    optimizer, groups = o.make_optimizer(), o.make_groups()
    assert optimizer.lr == pytest.approx(11.5 / k)
    assert optimizer.lr * optimizer.weight_decay == pytest.approx(0.0153 * 1024 / k)
    biases = groups[2]
    rate = optimizer.lr * biases.lr_factor
    assert biases.lr_factor == 64
    assert rate * biases.arguments["weight_decay"] == pytest.approx(0.0153 * 1024 / k)
    total = math.ceil(9.9 * (50_000 // 1024))
    assert o.total_steps(48) == total == 476
    lookahead = Lookahead.of(o.lookahead)
    for step in (5, 100, 475):
        decay = 0.95**5 * (step / total) ** 3
        assert 1 - lookahead.weight(step / total) == pytest.approx(decay)


def test_triangular() -> None:
    total, rise = 476, int(0.23 * 476)
    rates = learning_rates(Triangular(0.23, 0.2, 0.07), 2.0, 0, total, total, 48)
    expected = [
        0.2 * (1 - s / rise) + s / rise
        if s < rise
        else (1 - (s - rise) / (total - rise)) + 0.07 * (s - rise) / (total - rise)
        for s in range(total)
    ]
    np.testing.assert_allclose(rates, 2.0 * np.array(expected))
    falling = learning_rates(Triangular(0.0, 1.0, 0.0), 1.0, 0, 200, 200, 25)
    np.testing.assert_allclose(falling, 1 - np.arange(200) / 200)
    for wrong in ({"warmup_fraction": 1.0}, {"final_factor": -0.1}, {"initial_factor": math.inf}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            Triangular(**wrong)


def test_milestones() -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3], gamma=0.1)
    expected = []
    for _ in range(5):
        expected += [scheduler.get_last_lr()[0]] * 4
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(learning_rates(MultiStep((2, 3)), 0.1, 0, 20, 20, 4), expected)
    with pytest.raises(ConfigurationError, match="milestones"):
        MultiStep(())
