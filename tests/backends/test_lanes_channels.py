"""The engine's forward pass of a few samples, with a channel in each lane."""

from copy import deepcopy

import numpy as np
import pytest

import fastcnn
from bench.networks.tasks import TASKS
from fastcnn.analysis.gradient_cases import CASES
from fastcnn.backends.lanes import conv_algorithm
from fastcnn.backends.lanes.convolution.channel_winograd1d import geometry
from fastcnn.backends.lanes.planning.grouping import Unsupported
from fastcnn.data import Preprocessing
from fastcnn.execution import predict_logits
from fastcnn.execution.engine_arguments import input_factors
from fastcnn.execution.prepared import make_inference
from fastcnn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    Input,
    Layer,
    LayerNorm,
    Linear,
    MaxPool2d,
    Model,
    PReLU,
    ReLU,
    ReLU6,
    Sequential,
    SqueezeExcite,
    Unflatten,
)
from fastcnn.operations import OPERATIONS
from tests.backends.test_lanes_layers import network
from tests.random_networks import random_case

#: Layers with one input.
ALONE = [case for case in CASES if getattr(OPERATIONS.get(case[0].operation), "inputs", 1) == 1]
NETWORKS = ("report_cnn", "lenet5", "vgg_small", "resnet8")


def by_channels(model: Model, x: np.ndarray, threads: int = 2, most: int = 0) -> np.ndarray:
    """Outputs of a pass with a channel in each lane, planned for ``most`` or all samples."""
    folded = model.fold_batch_norm()
    most = most or len(x)
    one = make_inference(folded, folded.graph(), most, threads).by_channels(most)
    if one is None:
        raise Unsupported("no pass with a channel in each lane")
    x = np.ascontiguousarray(x, np.float32)
    outputs = np.empty((len(x), *model.graph().output_shape), np.float32)
    factors = np.concatenate(input_factors(model.preprocessing, x))
    place = x.ctypes.data, outputs.ctypes.data
    one.run(x, outputs, factors, place)
    return outputs


def exact(model: Model, x: np.ndarray) -> np.ndarray:
    """The outputs of im2col in float64."""
    return predict_logits(deepcopy(model).to(np.float64), x, backend="im2col")


def check(model: Model, x: np.ndarray) -> None:
    """Compare both; a pass gives the same bits on any threads, and for one sample or all."""
    expected = exact(model, x)
    atol = 1e-5 * max(1.0, np.abs(expected).max())
    for few, right in ((x, expected), (x[1:2], expected[1:2])):
        found = by_channels(model, few)
        np.testing.assert_allclose(found, right, rtol=0, atol=atol, equal_nan=False)
        for threads in (1, 3, 5):
            assert np.array_equal(by_channels(model, few, threads), found)
    assert np.array_equal(by_channels(model, x[1:2], most=len(x)), by_channels(model, x)[1:2])


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    model = getattr(fastcnn.models, name)(seed=0)
    generator = np.random.default_rng(0)
    for key, value in model.state_dict().items():
        if "running" in key:
            value[...] = generator.uniform(0.5, 1.5, value.shape)
    x = generator.standard_normal((3, *model.input_shape)).astype(np.float32)
    check(model, x)
    images = generator.integers(0, 256, x.shape).astype(np.uint8)
    assert model.logits(images[:2]) == pytest.approx(exact(model, images[:2]), rel=1e-4, abs=1e-2)


@pytest.mark.parametrize(("layer", "shape"), ALONE, ids=lambda value: repr(value)[:40])
def test_layers(layer: Layer, shape: tuple[int, ...]) -> None:
    model = network(layer, shape)
    x = np.random.default_rng(0).normal(0.0, 2.0, (3, *shape)).astype(np.float32)
    if layer.arguments.get("track_running_stats", True):
        check(model, x)
    else:
        with pytest.raises(Unsupported, match="a channel in each lane"):
            by_channels(model, x)


@pytest.mark.parametrize("padding", [0, 1, (2, 1)])
@pytest.mark.parametrize("size", [(32, 32), (17, 20), (27, 33)])
@pytest.mark.parametrize(("inputs", "outputs"), [(16, 16), (20, 40), (64, 80)])
def test_transforms_of_stride_2(
    inputs: int,
    outputs: int,
    size: tuple[int, int],
    padding: int | tuple[int, int],
) -> None:
    """Border tiles, channels that do not fill vectors, padding on all sides."""
    layer = Conv2d(inputs, outputs, 3, stride=2, padding=padding, seed=0)
    model = Sequential(layer, ReLU(), input_shape=(inputs, *size))
    x = np.random.default_rng(1).standard_normal((3, inputs, *size)).astype(np.float32)
    with conv_algorithm("winograd2d"):
        assert "Winograd by channels" in kernel_names(model)
        check(model, x)


def test_branches_that_meet() -> None:
    x = Input((3, 9, 7))
    left, right = (Conv2d(3, 32, 3, padding=1, seed=seed)(x) for seed in (0, 1))
    more = Conv2d(3, 7, 1, seed=2)(x)
    y = Conv2d(71, 24, 3, padding=1, seed=3)(Concat()(ReLU()(left - right), left * right, more))
    y = GlobalAvgPool2d()(SqueezeExcite(24, 5, seed=4)(y))
    model = Model(x, Linear(24, 4, seed=5)(Flatten()(y)))
    check(model, np.random.default_rng(2).standard_normal((3, 3, 9, 7)).astype(np.float32))


@pytest.mark.parametrize("kind", ["pixels", "pixels first", "channels", "flat", "lanes"])
def test_branches_that_meet_otherwise(kind: str) -> None:
    x = Input((3, 9, 7))
    y = Conv2d(3, 20, 3, padding=1, seed=0)(x)
    if kind == "pixels":
        y = y * Conv2d(20, 1, 1, seed=1)(y)
    elif kind == "pixels first":
        y = Conv2d(20, 1, 1, seed=1)(y) * y
    elif kind == "channels":
        # Lanes are idle after x, and after both.
        y = Concat()(Concat()(x, y), x)
        y = BatchNorm2d(26)(PReLU(26, init=0.3)(y))
        y = Concat()(Conv2d(26, 26, 3, padding=1, groups=26, seed=1)(y), y)
        y = Conv2d(52, 16, 3, padding=1, seed=2)(MaxPool2d(3, 1, padding=1)(y))
    elif kind == "flat":
        y = Concat()(Flatten()(y) - Flatten()(Conv2d(20, 20, 1, seed=1)(y)), Flatten()(x))
    else:
        # The same channels in other lanes.
        y = Concat()(x, y) + Conv2d(20, 23, 1, seed=1)(y)
    model = Model(x, Linear(int(np.prod(y.shape)), 3, seed=5)(Flatten()(y)))
    check(model, np.random.default_rng(3).standard_normal((3, 3, 9, 7)).astype(np.float32))


@pytest.mark.parametrize(
    "layer",
    [
        ConvTranspose2d(18, 20, 4, stride=2, padding=1, seed=0),
        ConvTranspose2d(18, 20, 2, stride=3, seed=0),
        ConvTranspose2d(18, 12, 3, stride=(2, 1), output_padding=(1, 0), groups=3, seed=0),
        ConvTranspose2d(18, 4, 3, dilation=2, padding=2, seed=0),
        ConvTranspose2d(18, 33, (1, 5), padding=(0, 2), seed=0),
        Conv2d(18, 42, 3, padding=1, groups=6, seed=0),
        Conv2d(18, 36, 1, groups=18, seed=0),
        Conv2d(18, 45, 3, stride=2, groups=9, seed=0),
    ],
    ids=lambda layer: repr(layer)[:60],
)
def test_groups_and_transposed_convolutions(layer: Layer) -> None:
    for size in ((1, 1), (3, 5), (6, 11)):
        if layer.operation == "conv2d" and size == (1, 1):
            continue
        x = Input((3, *size))
        y = deepcopy(layer)(Conv2d(3, 18, 1, seed=1)(x))
        check(Model(x, y), np.random.default_rng(0).normal(size=(2, 3, *size)).astype(np.float32))


def test_a_vector_becomes_a_map_that_is_padded() -> None:
    x = Input((5,))
    y = Unflatten(1, (18, 3, 4))(ReLU()(Linear(5, 216, seed=0)(x)))
    y = Conv2d(18, 4, 3, padding=1, seed=1)(y)
    check(Model(x, y), np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32))
    x = Input((216,))
    y = Conv2d(18, 4, 3, padding=1, seed=1)(Unflatten(1, (18, 3, 4))(x))
    check(Model(x, y), np.random.default_rng(0).standard_normal((3, 216)).astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_known_networks(name: str) -> None:
    model = TASKS[name].model()
    x = np.random.default_rng(0).standard_normal((2, *model.graph().input_shape))
    expected = exact(model, x)
    found = by_channels(model, x.astype(np.float32))
    assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize(
    "layers",
    [
        (MaxPool2d(3, 2, padding=1), Conv2d(2, 3, 3, padding=1, seed=1)),
        (AvgPool2d(3, 2, padding=1), Conv2d(2, 3, 3, padding=1, seed=1)),
        (Conv2d(2, 4, 3, padding=1, seed=1), Conv2d(4, 4, 5, padding=4, dilation=2, seed=2)),
        (Conv2d(2, 18, 3, seed=1), Conv2d(18, 34, 3, padding=(2, 3), dilation=(2, 3), seed=2)),
        (Conv2d(2, 4, 3, stride=3, seed=1), ReLU(), MaxPool2d(2), Conv2d(4, 2, 1, seed=2)),
        (Conv2d(2, 4, (1, 5), stride=(2, 1), padding=(0, 2), seed=1), ReLU(), MaxPool2d(2)),
        (Conv2d(2, 32, 3, padding=1, seed=1), Conv2d(32, 32, 3, stride=2, groups=2, seed=2)),
        (Conv2d(2, 2, 3, padding=1, groups=2, seed=1), Conv2d(2, 2, 5, stride=2, groups=2, seed=2)),
        (Conv2d(2, 40, 1, seed=1), ReLU(), Conv2d(40, 72, 3, padding=1, seed=2), MaxPool2d(2)),
        (Conv2d(2, 17, 3, seed=1), ReLU(), Conv2d(17, 1, 3, padding="same", seed=2)),
    ],
    ids=lambda layers: repr(layers[0])[:40],
)
@pytest.mark.parametrize("size", [(13, 17), (18, 7), (9, 40)])
def test_geometries(layers: tuple[Layer, ...], size: tuple[int, int]) -> None:
    features = int(np.prod(Sequential(*deepcopy(layers)).output_shape((2, *size))))
    model = Sequential(
        *deepcopy(layers), Flatten(), Linear(features, 5, seed=3), input_shape=(2, *size)
    )
    check(model, np.random.default_rng(1).standard_normal((2, 2, *size)).astype(np.float32))


@pytest.mark.parametrize("seed", range(60))
def test_random_networks(seed: int) -> None:
    case = random_case(seed, 300_000, ("small", "usual", "sequence"))
    model, x = case.model, case.x[:2].astype(np.float32)
    of_batch = bool(model.graph().batch_statistics(training=False))
    for few in (x,) if of_batch else (x, x[:1]):
        expected = exact(model, few)
        largest = max(1e-3, float(np.abs(expected).max()))
        assert np.abs(predict_logits(model, few) - expected).max() <= 1e-4 * largest


def test_nan_goes_where_it_is_read() -> None:
    model = Sequential(
        Conv2d(1, 2, 3, padding=1, seed=1), Conv2d(2, 1, 3, padding=1, seed=2),
        input_shape=(1, 12, 20),
    )  # fmt: skip
    x = np.zeros((1, 1, 12, 20), np.float32)
    x[0, 0, 5, 19] = np.nan
    assert (np.isnan(by_channels(model, x)) == np.isnan(exact(model, x))).all()


@pytest.mark.parametrize("outputs", [1, 3, 5])
@pytest.mark.parametrize("inputs", [16, 40])
def test_few_output_channels(outputs: int, inputs: int) -> None:
    """Lanes then hold input channels."""
    x = Input((2, 9, 7))
    y = ReLU()(Conv2d(2, inputs, 3, padding=1, seed=0)(x))
    left, right = (Conv2d(inputs, outputs, 3, padding=1, seed=seed)(y) for seed in (1, 2))
    large = ConvTranspose2d(inputs, outputs, 9, stride=3, padding=4, output_padding=2, seed=3)(y)
    model = Model(x, Concat()(Flatten()(ReLU()(left + right)), Flatten()(large)))
    check(model, np.random.default_rng(4).standard_normal((3, 2, 9, 7)).astype(np.float32))
    # Border rows of a transposed convolution are separate rows of the program.
    assert kernel_names(model).count("convolution to few channels") >= 2 + 9


def kernel_names(model: Model, count: int = 3) -> list[str]:
    """Names of the kernels of a pass with a channel in each lane."""
    folded = model.fold_batch_norm()
    one = make_inference(folded, folded.graph(), 3, 2).by_channels(count)
    return [one.program.kernel(n) for n in range(len(one.program.rows))]


@pytest.mark.parametrize(
    ("count", "kernel"), [(1, "Winograd along rows by channels"), (3, "Winograd by channels")]
)
def test_large_transformed_weights_are_not_read_for_few_tiles(count: int, kernel: str) -> None:
    model = Sequential(Conv2d(128, 128, 3, padding=1, seed=1), input_shape=(128, 8, 8))
    assert kernel in kernel_names(model, count)
    check(model, np.random.default_rng(1).standard_normal((3, 128, 8, 8)).astype(np.float32))


def test_passes_share_equal_weights() -> None:
    model = fastcnn.models.lenet5(seed=0)
    inference = make_inference(model, model.graph(), 3, 2)
    assert inference.by_channels(1).parameters is inference.by_channels(3).parameters


@pytest.mark.parametrize("width", [1, 2, 3, 4, 8])
def test_large_weights_are_read_once_for_all_samples(width: int) -> None:
    """Including sums, pooling and groups: maps outlive their sample."""
    x = Input((16, width, width))
    y = ReLU()(Conv2d(16, 128, 3, padding=1, seed=0)(x))
    z = Conv2d(128, 128, 3, padding=1, seed=1)(y)
    y = ReLU()(Conv2d(128, 128, 3, padding=1, seed=2)(z) + y)
    y = Conv2d(128, 512, 3, padding=1, groups=2, seed=3)(y)
    y = ReLU()(Conv2d(512, 100, 1, seed=4)(y))
    y = MaxPool2d(2)(y) if width > 1 else y
    model = Model(x, Flatten()(y))
    check(model, np.random.default_rng(5).standard_normal((5, 16, width, width)).astype(np.float32))
    folded = model.fold_batch_norm()
    program = make_inference(folded, folded.graph(), 5, 2).by_channels(5).program
    whole = {
        name for first, last, many in program.phases if many for name in program.names[first:last]
    }
    assert len(whole) >= 3


@pytest.mark.parametrize(
    "shape", [(5,), (16,), (100,), (3, 5, 5), (20, 1, 3), (2, 4, 16), (1, 3, 3)]
)
@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_inputs_have_the_factors_of_their_channels(shape: tuple[int, ...], kind: str) -> None:
    """In both programs, however tiles of 16 values divide the channels."""
    generator = np.random.default_rng(6)
    model = Sequential(Flatten(), Linear(int(np.prod(shape)), 4, seed=0), input_shape=shape)
    mean, std = generator.uniform(0, 1, shape[0]), generator.uniform(0.5, 2, shape[0])
    model.preprocessing = Preprocessing(mean=tuple(mean), std=tuple(std), trained_on=kind)
    x = generator.integers(0, 256, (19, *shape)).astype(np.uint8 if kind == "uint8" else np.float32)
    expected = exact(model, x)
    for count in (1, 3, 16, 19):
        assert model.logits(x[:count]) == pytest.approx(expected[:count], rel=1e-4, abs=1e-4)


def test_relu6_is_done_where_sums_are_stored() -> None:
    """For all algorithms, and after a sum; not if others read the unbounded values."""
    x = Input((16, 12, 12))
    y = ReLU6()(BatchNorm2d(16)(MaxPool2d(2, 1)(x)))
    y = ReLU6()(Conv2d(16, 32, 3, padding=1, seed=0)(y))
    y = ReLU6()(Conv2d(32, 32, 3, padding=1, groups=32, seed=1)(y))
    y = ReLU6()(Conv2d(32, 32, 3, stride=2, padding=1, seed=2)(y))
    z = Conv2d(32, 32, 1, seed=3)(y)
    y = ReLU6()(z + y)
    few = ReLU6()(Conv2d(32, 2, 3, seed=4)(y))
    large = ReLU6()(ConvTranspose2d(32, 20, 3, seed=5)(y))
    both = Conv2d(32, 3, 1, seed=6)(y)
    outputs = [few, large, ReLU6()(both), both]
    model = Model(
        x,
        ReLU6()(
            Linear(2 * 16 + 20 * 64 + 6 * 36, 40, seed=7)(
                Concat()(*(Flatten()(value) for value in outputs))
            )
        ),
    )
    for key, value in model.state_dict().items():
        if "weight" in key:
            value *= 4.0
    x = np.random.default_rng(7).standard_normal((3, 16, 12, 12)).astype(np.float32)
    check(model, x)
    found = by_channels(model, x)
    for value in (0.0, 6.0):
        assert (found == value).any()
    assert ((found > 0.0) & (found < 6.0)).any()
    names = [name for name in kernel_names(model) if name == "relu6"]
    assert len(names) == 1
    x[1, 3, 4, 5] = np.nan
    assert (np.isnan(by_channels(model, x)) == np.isnan(exact(model, x))).all()


@pytest.mark.parametrize(
    ("layer", "channels"),
    [(GroupNorm(2, 64), 64), (GroupNorm(4, 72), 72), (LayerNorm((32, 5, 6)), 32)],
    ids=lambda value: repr(value),
)
def test_normalised_sets_of_whole_vectors(layer: Layer, channels: int) -> None:
    """The second one's sets are not."""
    x = Input((8, 5, 6))
    y = ReLU()(deepcopy(layer)(Conv2d(8, channels, 3, padding=1, seed=0)(x)))
    model = Model(x, Conv2d(channels, 3, 1, seed=1)(y))
    generator = np.random.default_rng(0)
    for value in model.state_dict().values():
        value[...] += generator.uniform(-0.1, 0.1, value.shape)
    check(model, generator.normal(2.0, 3.0, (3, 8, 5, 6)).astype(np.float32))


@pytest.mark.parametrize("channels", [1, 3, 16, 21])
@pytest.mark.parametrize("width", [15, 16, 39])
def test_images_are_transposed_into_lanes(channels: int, width: int) -> None:
    """Floats and bytes, whose means and deviations differ between channels."""
    shape = (channels, 4, width)
    model = Sequential(
        MaxPool2d(3, 1, padding=1), Conv2d(channels, 2, 1, seed=0), input_shape=shape
    )
    generator = np.random.default_rng(0)
    mean, std = generator.uniform(0.1, 0.9, (2, channels))
    model.preprocessing = Preprocessing(mean=tuple(mean), std=tuple(std))
    images = generator.integers(0, 256, (3, *shape))
    for x in (images.astype(np.uint8), images.astype(np.float32)):
        found = by_channels(model, x) if x.dtype == np.float32 else model.logits(x[:1])
        assert found == pytest.approx(exact(model, x[: len(found)]), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("kernel", "padding", "size"),
    [
        ((5, 5), 2, (13, 18)),
        ((7, 7), (0, 3), (16, 9)),
        ((4, 4), 2, (9, 30)),
        ((2, 9), (1, 4), (5, 21)),
        ((3, 11), (1, 0), (6, 26)),
        ((1, 3), (0, 1), (1, 150)),
        ((1, 6), 0, (1, 75)),
    ],
    ids=lambda value: str(value),
)
def test_transforms_along_rows(
    kernel: tuple[int, int],
    padding: int | tuple[int, int],
    size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Strips and parts of rows, with a summand, and channels that do not fill vectors."""
    monkeypatch.setattr(geometry, "STRIP", 1300)
    x = Input((20, *size))
    y = Conv2d(20, 40, kernel, padding=padding, seed=0)(x)
    more = Conv2d(20, 40, kernel, padding=padding, seed=1)(x)
    model = Model(x, Conv2d(40, 90, kernel, padding="same", seed=2)(ReLU6()(y + more)))
    inputs = np.random.default_rng(1).standard_normal((3, 20, *size)).astype(np.float32)
    with conv_algorithm("winograd1d"):
        assert kernel_names(model).count("Winograd along rows by channels") == 3
        check(model, inputs)


def test_the_algorithm_of_few_samples_is_named_and_forced() -> None:
    """Transposed convolutions, and what the algorithm does not fit, are direct sums."""
    layers = {
        "a": Conv2d(16, 16, 3, padding=1, seed=0),
        "b": Conv2d(16, 16, 1, seed=1),
        "c": ConvTranspose2d(16, 16, 3, seed=2),
    }
    model = Sequential(layers, input_shape=(16, 12, 12))
    found = {}
    for name in ("winograd2d", "winograd1d", "direct", "depthwise"):
        with conv_algorithm(name):
            program = make_inference(model, model.graph(), 3, 1).by_channels(3).program
        used = [parts["forward"] for _, parts in program.algorithms]
        assert used[1:] == ["direct", "direct"]
        found[name] = used[0]
    assert found == {name: name for name in ("winograd2d", "winograd1d", "direct")} | {
        "depthwise": "direct"
    }


@pytest.mark.parametrize("name", ["winograd1d", "winograd2d"])
@pytest.mark.parametrize("inputs", [1, 3])
def test_algorithms_fit_few_channels(name: str, inputs: int) -> None:
    """Which they compute only if they are forced."""
    layers = Conv2d(inputs, 5, 3, padding=1, seed=0), ReLU(), Conv2d(5, 20, 3, seed=1)
    model = Sequential(*layers, input_shape=(inputs, 9, 11))
    x = np.random.default_rng(2).standard_normal((3, inputs, 9, 11)).astype(np.float32)
    assert not any("Winograd" in kernel for kernel in kernel_names(model))
    with conv_algorithm(name):
        assert sum("Winograd" in kernel for kernel in kernel_names(model)) == 2
        check(model, x)
