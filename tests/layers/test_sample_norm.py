"""Normalisation within samples, the softmax and scales as layers: shapes, refusals, training."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GroupNorm,
    InstanceNorm2d,
    Layer,
    LayerNorm,
    LayerNorm2d,
    Linear,
    LocalResponseNorm,
    LogSoftmax,
    RMSNorm,
    Scale,
    Sequential,
    Softmax,
)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (LayerNorm((4, 5)), (3, 5, 4), r"last dimensions are \(4, 5\), got \(3, 5, 4\)"),
        (LayerNorm(3), (3, 5, 4), "LayerNorm2d normalises the channels of each pixel"),
        (RMSNorm(3), (4,), r"last dimensions are \(3,\)"),
        (LayerNorm2d(3), (4, 5, 5), r"\(3, H, W\), got \(4, 5, 5\)"),
        (LayerNorm2d(3), (3,), r"\(3, H, W\), got \(3,\)"),
        (GroupNorm(2, 4), (6, 5, 5), r"\(4, \.\.\.\), got \(6, 5, 5\)"),
        (GroupNorm(4, 4), (4,), "more than one value"),
        (InstanceNorm2d(4), (4, 1, 1), "more than one value"),
        (InstanceNorm2d(4), (4,), r"\(4, H, W\), got \(4,\)"),
        (LocalResponseNorm(3), (4,), r"\(C, H, W\), got \(4,\)"),
        (Softmax(2), (4,), "has dim=2, samples of shape"),
        (Softmax(-2), (4,), "has dim=-2, samples of shape"),
        (Scale(3), (4, 2, 2), "factors for 3 channels"),
    ],
    ids=repr,
)
def test_samples_that_do_not_fit(layer: Layer, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Sequential(layer, input_shape=shape).graph()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LayerNorm(()), "normalized_shape must not be empty"),
        (lambda: LayerNorm((3, 0)), "normalized_shape must be a positive integer, got 0"),
        (lambda: LayerNorm("ab"), "normalized_shape must be a positive integer, got 'ab'"),
        (lambda: LayerNorm(3, eps=0.0), "eps must be a finite number above 0"),
        (lambda: RMSNorm(3, eps=-1.0), "eps must be a finite number above 0"),
        (lambda: GroupNorm(3, 4), "num_groups must divide num_channels=4, got 3"),
        (lambda: GroupNorm(0, 4), "num_groups must be a positive integer"),
        (lambda: InstanceNorm2d(3, track_running_stats=True), "track_running_stats=True"),
        (lambda: LocalResponseNorm(0), "size must be a positive integer"),
        (lambda: LocalResponseNorm(2**40), "of at most 65,536, got 1099511627776"),
        (lambda: LocalResponseNorm(3, beta=np.nan), "beta must be a finite number"),
        (lambda: Softmax(0), "dim must be an integer, and not 0"),
        (lambda: LogSoftmax(1.5), "LogSoftmax: dim must be an integer"),
        (lambda: Scale(0), "num_parameters must be a positive integer"),
        (lambda: Scale(init=np.inf), "init must be a finite number"),
    ],
)
def test_arguments_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize("kind", [BatchNorm1d, BatchNorm2d])
@pytest.mark.parametrize(("weight", "bias"), [(True, False), (False, True), (False, False)])
def test_batch_norm_with_one_of_its_two_parameters(kind: Any, weight: bool, bias: bool) -> None:
    layer = kind(3, momentum=0.4, weight=weight, bias=bias)
    assert (layer.weight is not None, layer.bias is not None) == (weight, bias)
    layer.eps = 1e-3  # set like any other argument
    assert (layer.weight is not None, layer.bias is not None) == (weight, bias)
    with pytest.raises(ConfigurationError, match="Make a new layer"):
        layer.track_running_stats = False


def classified(*layers: Layer) -> tuple[Sequential, np.ndarray, np.ndarray]:
    """A small network with some layers, and data that it can learn."""
    model = Sequential(
        Conv2d(1, 4, 3, padding=1, seed=0), *layers, Flatten(), Linear(144, 3, seed=1),
        input_shape=(1, 6, 6),
    )  # fmt: skip
    generator = np.random.default_rng(0)
    labels = np.arange(96) % 3
    images = generator.normal(0.0, 0.3, (96, 1, 6, 6)).astype(np.float32)
    images[np.arange(96), 0, :, 2 * labels] += 1.0
    return model, images, labels


@pytest.mark.parametrize("backend", ["lanes", "im2col"])
@pytest.mark.parametrize(
    "layers",
    [
        [LayerNorm2d(4), Scale(4, 0.1)],
        [GroupNorm(2, 4), LocalResponseNorm(3)],
        [LayerNorm((4, 6, 6))],
        [InstanceNorm2d(4, affine=True), Scale(init=1 / 9, trainable=False)],
        [RMSNorm((4, 6, 6))],
        [BatchNorm2d(4, weight=False, momentum=0.4)],
    ],
    ids=repr,
)
def test_networks_learn(
    layers: list[Layer], backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    model, images, labels = classified(*layers)
    history = fastcnn.fit(
        model, (images, labels), epochs=12, batch_size=32, lr=0.05, backend=backend, seed=0
    )
    assert history.final["train_accuracy"] > 0.9
    assert not [entry for entry in caplog.records if entry.name == "fastcnn.lanes"]


@pytest.mark.parametrize("backend", ["lanes", "im2col", "reference"])
def test_a_fixed_scale_stays(backend: str) -> None:
    scale = Scale(init=0.25, trainable=False)
    model, images, labels = classified(scale)
    fastcnn.fit(model, (images[:8], labels[:8]), epochs=1, batch_size=8, lr=0.5, backend=backend)
    assert scale.weight.tolist() == [0.25]
    scale.trainable = True
    fastcnn.fit(model, (images[:8], labels[:8]), epochs=1, batch_size=8, lr=0.5, backend=backend)
    assert scale.weight.tolist() != [0.25]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_do_not_depend_on_threads(threads: int) -> None:
    """Remaining blocks are computed by all threads together."""
    layers = [LayerNorm2d(4), GroupNorm(2, 4), LocalResponseNorm(3), LayerNorm((4, 6, 6))]
    model, images, labels = classified(*layers, Softmax())
    fastcnn.fit(model, (images[:80], labels[:80]), epochs=2, batch_size=80, threads=threads)
    other, _, _ = classified(LayerNorm2d(4), GroupNorm(2, 4), *layers[2:3],
                             LayerNorm((4, 6, 6)), Softmax())  # fmt: skip
    fastcnn.fit(other, (images[:80], labels[:80]), epochs=2, batch_size=80, threads=1)
    assert (model.parameter_vector == other.parameter_vector).all()


def test_probabilities_are_not_taken_for_logits() -> None:
    model, images, _ = classified()
    expected = model.predict_proba(images)
    model.append(Softmax())
    assert model.predict_proba(images) == pytest.approx(expected, abs=1e-6)
    assert model.predict_proba(images).sum(axis=1) == pytest.approx(np.ones(96), abs=1e-6)


@pytest.mark.parametrize("after", [[], [Dropout(0.5)], [Flatten()]])
def test_probabilities_of_a_network_that_gives_them(after: list[Layer]) -> None:
    logits = Sequential(Linear(4, 3, seed=0), input_shape=(4,))
    model = Sequential(logits, Softmax(1), *after, input_shape=(4,))
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    expected = logits.predict_proba(x)
    for found in (model.predict_proba(x), fastcnn.session(model).predict_proba(x)):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (model.predict(x) == logits.predict(x)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rms_norm_of_small_numbers_has_the_epsilon_of_its_type(dtype: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = np.random.default_rng(0).normal(0.0, 1e-6, (4, 6)).astype(dtype)
    layer = RMSNorm(6, dtype=dtype)
    assert repr(layer) == "RMSNorm((6,))"
    expected = torch.nn.RMSNorm(6)(torch.from_numpy(x).to(getattr(torch, np.dtype(dtype).name)))
    actual = Sequential(layer, input_shape=(6,)).logits(x)
    np.testing.assert_allclose(actual, expected.detach().numpy(), rtol=1e-5)
