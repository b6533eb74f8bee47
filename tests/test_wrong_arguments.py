"""Arguments of the wrong kind are refused by name, where they would be ignored or end in Python."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import BatchNorm2d, Conv2d, Flatten, LayerNorm, Linear, PReLU, Scale, Sequential
from fastcnn.analysis.explanations import fgsm, grad_cam, occlusion, saliency
from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.estimators import CNNClassifier
from fastcnn.interop import export_onnx, save_state
from fastcnn.interop.c.export import export_c
from fastcnn.interop.numpy_source import export_numpy
from fastcnn.layers import GraphBuilder
from fastcnn.layers.folding import fold_batch_norm
from fastcnn.optim import (
    SGD,
    Adam,
    Lookahead,
    Muon,
    RMSprop,
    Warmup,
    clip_gradient_norm,
    learning_rates,
)
from fastcnn.recipes import NamedRecipe, records
from fastcnn.training.sweeps import sweep

DATA, _ = fastcnn.data.digits_dataset(20, 10)
X, Y = np.random.default_rng(0).random((4, 1, 6, 6), np.float32), np.arange(4) % 2


def model() -> Sequential:
    return Sequential(Flatten(), Linear(36, 2, seed=0), input_shape=(1, 6, 6))


class Estimator:
    model_ = model()


@pytest.mark.parametrize(
    ("given", "hint"),
    [("net.safetensors", "fastcnn.load"), (Estimator(), "model_"), (None, "Sequential")],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda given: fastcnn.fit(given, (X, Y)),
        lambda given: fastcnn.evaluate(given, (X, Y)),
        lambda given: fastcnn.gradients(given, X, Y),
        lambda given: fastcnn.input_gradient(given, X, Y),
        lambda given: fastcnn.compare_backends(given, X, Y),
        fastcnn.session,
        fastcnn.plan,
        lambda given: saliency(given, X),
        lambda given: fgsm(given, X, Y, 0.1),
        lambda given: fastcnn.lr_find(given, (X, Y)),
        lambda given: fastcnn.transfer.replace_head(given, 3),
        lambda given: export_onnx(given, "a.onnx"),
        lambda given: export_c(given, "a.h"),
        lambda given: save_state(given, "a.safetensors"),
    ],
)
def test_what_is_not_a_model(call: Callable[[Any], Any], given: Any, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"model must be a Model.*{hint}"):
        call(given)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("bias", lambda value: Conv2d(1, 1, 1, bias=value)),
        ("bias", lambda value: Linear(1, 1, value)),
        ("affine", lambda value: BatchNorm2d(1, affine=value)),
        ("track_running_stats", lambda value: BatchNorm2d(1, track_running_stats=value)),
        ("weight", lambda value: BatchNorm2d(1, weight=value)),
        ("elementwise_affine", lambda value: LayerNorm(1, elementwise_affine=value)),
        ("trainable", lambda value: Scale(trainable=value)),
        ("nesterov", lambda value: SGD(momentum=0.9, nesterov=value)),
        ("centered", lambda value: RMSprop(centered=value)),
        ("nesterov", lambda value: Muon(nesterov=value)),
        ("training", lambda value: fastcnn.gradients(model(), X, Y, training=value)),
        ("strict", lambda value: model().load_state_dict(model().state_dict(), strict=value)),
    ],
)
@pytest.mark.parametrize("value", ["False", None, 2, np.zeros(3)])
def test_flags_are_true_or_false(name: str, make: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be True or False"):
        make(value)


@pytest.mark.parametrize("dtype", [int, np.float16, None, [], ">f4", "x", "f4,,", {"names": ["a"]}])
@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: Linear(1, 1, dtype=dtype),
        lambda dtype: BatchNorm2d(1, dtype=dtype),
        lambda dtype: LayerNorm(1, dtype=dtype),
        lambda dtype: PReLU(dtype=dtype),
        lambda dtype: model().to(dtype),
    ],
)
def test_parameters_are_float32_or_float64(make: Callable[[Any], Any], dtype: Any) -> None:
    with pytest.raises(ConfigurationError, match="dtype must be float32 or float64"):
        make(dtype)


@pytest.mark.parametrize("seed", [-1, 1.5, "x", np.zeros(3)])
def test_seeds(seed: Any) -> None:
    for make in (
        lambda: Linear(1, 1, seed=seed),
        lambda: fastcnn.models.lenet5(seed=seed),
        lambda: model().initialize(fastcnn.layers.init.Normal(0.1), seed=seed),
    ):
        with pytest.raises(ConfigurationError, match="seed must be an integer"):
            make()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SGD(lr=(0.1, 0.2)), r"lr must be a number, got \(0.1, 0.2\)"),  # type: ignore[arg-type]
        (lambda: Adam(betas=0.9), "betas must be 2 numbers"),  # type: ignore[arg-type]
        (lambda: Warmup(3, "x"), "schedule must be one of"),  # type: ignore[arg-type]
        (lambda: model().summary(6), "input_shape must be a tuple of positive integers"),
        (lambda: model().output_shape((1, 6.5, 6)), "input_shape must be a tuple"),  # type: ignore[arg-type]
        (lambda: model().features(X, 1), "layers must be a name or a list of names"),  # type: ignore[arg-type]
        (lambda: model().load_state_dict("net.safetensors"), "state must be a dictionary"),  # type: ignore[arg-type]
        (lambda: model().logits(X, backend=np.zeros(2)), "backend must be one of"),  # type: ignore[arg-type]
        (lambda: fastcnn.gradients(model(), X, Y, loss=""), "loss must be one of"),
        (lambda: fastcnn.models.unet(2, width=1.5), "width must be a positive integer"),  # type: ignore[arg-type]
        (lambda: fastcnn.models.auto_cnn(8, 2, 10), "input_shape must be a tuple"),  # type: ignore[arg-type]
        (lambda: fastcnn.lr_find(model(), (X, Y), lowest="x"), "lowest must be a finite number"),
        (lambda: fgsm(model(), X, Y, 0.1, bounds=(1, 0)), "least and the largest"),
        (lambda: fgsm(model(), X, Y, "x"), "epsilon must be a finite number"),  # type: ignore[arg-type]
        (lambda: occlusion(model(), X, value=float("nan")), "value must be a finite number"),
        (lambda: fastcnn.compare_backends(model(), X, Y, repeats=0), "repeats must be a positive"),
        (lambda: fastcnn.data.Augment(flip=np.zeros(2)), "flip must be"),  # type: ignore[arg-type]
    ],
)
def test_the_message_says_what_is_accepted(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        call()


@pytest.mark.parametrize("classes", [("a",), ("a", "b", "c"), "ab", 2])
@pytest.mark.parametrize("export", [export_c, export_numpy])
def test_exports_take_a_name_for_each_class(
    tmp_path: Path, export: Callable[..., Any], classes: Any
) -> None:
    with pytest.raises(ConfigurationError, match="classes"):
        export(model(), tmp_path / "net", classes=classes)
    assert not list(tmp_path.iterdir())
    export(model(), tmp_path / "net", classes=[3, 8])


@pytest.mark.parametrize("samples", [X[:, :, :3], X.reshape(4, 1, 4, 9), "x", X.reshape(4, 36)])
def test_samples_for_calibration_are_the_networks(tmp_path: Path, samples: Any) -> None:
    with pytest.raises(ShapeError, match=r"takes samples of shape \(1, 6, 6\)"):
        export_c(model(), tmp_path / "net.h", calibration=samples)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "cannot be a path"),
        (5, "a path must be a str or a Path"),
        (b"net", "a path must be a str or a Path"),
        (Path(""), r"\. is a folder"),
    ],
)
@pytest.mark.parametrize(
    "export", [Sequential.save, save_state, export_onnx, export_c, export_numpy]
)
def test_what_cannot_be_the_path_of_a_file(
    export: Callable[..., Any], path: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        export(model(), path)


def test_names_may_come_from_any_iterable() -> None:
    net = model()
    expected = net.features(X, ["0", "1"])
    for names in (iter(["0", "1"]), {"0": None, "1": None}.keys(), np.array(["0", "1"])):
        found = net.features(X, names)
        assert list(found) == ["0", "1"]
        for name, values in found.items():
            np.testing.assert_array_equal(values, expected[name])
    for patterns in (iter(["1.b*"]), {"1.bias"}, np.array(["1.b*"])):
        assert net.load_state_dict(net.state_dict(), skip=patterns).skipped == ("1.bias",)


def test_sizes_of_networks_are_numbers_of_python() -> None:
    """Those of numpy's small types would overflow."""
    small = np.array([32, 32, 32], np.int8)
    net = fastcnn.models.airbench(widths=small // 4, input_shape=tuple(small))
    assert net.input_shape == (32, 32, 32)
    assert net.layers["whiten"].out_channels == 256
    for make in (fastcnn.models.unet, fastcnn.models.autoencoder):
        assert make(2, input_shape=iter((1, 64, 64))).input_shape == (1, 64, 64)
    assert fastcnn.models.auto_cnn(iter((3, 16, 16)), 2, 9).input_shape == (3, 16, 16)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.int64, np.float16])
def test_samples_for_calibration_may_be_whole_numbers(tmp_path: Path, dtype: type) -> None:
    samples = np.round(255 * X)
    export_c(model(), tmp_path / "a.h", name="net", calibration=samples)
    export_c(model(), tmp_path / "b.h", name="net", calibration=samples.astype(dtype))
    assert (tmp_path / "a.h").read_bytes() == (tmp_path / "b.h").read_bytes()


def test_bounds_may_be_an_array() -> None:
    found = fgsm(model(), X, Y, 0.5, bounds=np.array([0.0, 1.0]))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, fgsm(model(), X, Y, 0.5, bounds=(0.0, 1.0)))


def test_numbers_of_numpy_in_a_search_for_a_rate() -> None:
    with pytest.raises(ConfigurationError, match="the loss still falls at a learning rate of 10"):
        fastcnn.lr_find(model(), (X, Y), steps=np.int64(20), lowest=np.float32(1e-3))


def test_a_warm_up_takes_a_schedule_by_its_name() -> None:
    assert Warmup(3, "cosine") == Warmup(3, fastcnn.optim.Cosine())  # type: ignore[arg-type]


def test_nothing_is_written_of_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        export_onnx("net", tmp_path / "a.onnx")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Flatten(2), "Flatten: start_dim must be 1, because all dimensions"),
        (lambda: Flatten(1, 2), "Flatten: end_dim must be -1"),
        (lambda: fastcnn.ReLU(inplace=True), "ReLU: .*'inplace'.*it takes no arguments"),
        (lambda: fastcnn.Tanh(1), "Tanh: too many positional arguments; it takes no arguments"),
        (lambda: Conv2d(1, 2, 3, pading=1), "Conv2d: .*'pading'; it takes in_channels, out_ch"),
        (lambda: Linear(3), "Linear: missing a required argument: 'out_features'"),
        (lambda: Linear(10**30, 2), "in_features must be a positive integer of at most"),
        (lambda: Linear(2**20, 2**20), r"shape \(1048576, 1048576\) are more than 2,147,483,647"),
        (lambda: BatchNorm2d(2**40), "num_features must be a positive integer of at most"),
        (lambda: fastcnn.MaxPool2d(2**40), "kernel_size must be an integer of at most 16,777,216"),
        (lambda: fastcnn.ZeroPad2d(2**40), "padding must be an integer of at most 16,777,216"),
        (lambda: Conv2d(1, 2, 3, weight_init=lambda *a: None), "weight_init must return numbers"),
        (
            lambda: Conv2d(1, 2, 3, weight_init=lambda shape, _: np.full(shape, 1e300)),
            "weight_init must return numbers that are finite in float32",
        ),
        (lambda: Conv2d(1, 2, 3, seed=True), "seed must be an integer of at least 0, .*, got True"),
        (lambda: Linear(1, 2, bias_init=lambda *a: np.ones(3)), r"bias_init must .* shape \(2,\)"),
        (lambda: Linear(1, 2, weight_init=lambda: None), "weight_init must take a shape and a"),
        (lambda: fold_batch_norm("net.safetensors"), "model must be a Model.*fastcnn.load"),  # type: ignore[arg-type]
        (
            lambda: fastcnn.losses.JointLoss(3),
            "losses of several outputs must be one loss",
        ),  # type: ignore[arg-type]
        (lambda: fastcnn.data.draw_digits("3"), "draw_digits: count must be a positive integer"),  # type: ignore[arg-type]
        (lambda: fastcnn.data.draw_digits(10**30), "count must be .* of at most 2,147,483,647"),
        (lambda: fastcnn.data.draw_digits(3, classes=5), "classes must be different digits"),  # type: ignore[arg-type]
        (lambda: fastcnn.data.draw_digits(3, classes=(1, 1)), "classes must be different digits"),
        (lambda: fastcnn.data.draw_digits(3, seed="a"), "seed must be an integer of at least 0"),  # type: ignore[arg-type]
        (lambda: fastcnn.data.digits_dataset("1", "2"), "digits_dataset: train must be a positive"),  # type: ignore[arg-type]
    ],
)
def test_no_bare_type_error(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        call()


RECIPE = {"data": {"name": "digits"}, "model": {"name": "lenet5"}}


def builder() -> GraphBuilder:
    return GraphBuilder((1, 6, 6))


def whitened(**settings: Any) -> dict[str, Any]:
    network = {"name": "airbench", "input_shape": [1, 28, 28], "num_classes": 10}
    return RECIPE | {"model": network | {"whiten": {"layer": "whiten", **settings}}}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clip_gradient_norm([1.0], 1.0), "gradient must be an array of floating-point"),
        (lambda: clip_gradient_norm(np.arange(3), 1.0), "gradient must be an array of floating"),
        (lambda: clip_gradient_norm(np.array(2.0), 1.0), "gradient must be an array of floating"),
        (lambda: clip_gradient_norm(np.ones(3), "x"), "max_norm must be a number above 0 or None"),
        (lambda: clip_gradient_norm(np.ones(3), -1.0), "max_norm must be a number above 0 or None"),
        (lambda: clip_gradient_norm(np.ones(3), math.nan), "max_norm must be a number above 0"),
        (lambda: learning_rates(None, 1.0, 0, 1, 1, 1), "schedule must be one of"),
        (lambda: learning_rates("cosine", None, 0, 1, 1, 1), "base_lr must be a number, got None"),
        (
            lambda: learning_rates("cosine", 1.0, -1, 1, 1, 1),
            "first_step must be an integer",
        ),
        (lambda: learning_rates("cosine", 1.0, 0, 10**30, 1, 1), "count must be an integer from 0"),
        (
            lambda: learning_rates("step", 1.0, 0, 1, 1, 0),
            "steps_per_epoch must be an integer",
        ),
        (lambda: Lookahead(every=2**62), "steps of at least 1 and at most 2,147,483,647"),
        (lambda: GraphBuilder(5), "input_shape must be a tuple of positive integers"),
        (lambda: builder().shape(0), "index must be a node's, below 0, or -1, got 0"),
        (lambda: builder().add("a", Flatten(), (0,)), "index must be a node's"),
        (lambda: builder().add("a", Flatten(), -1), "inputs must be a tuple of nodes, got -1"),
        (lambda: builder().add("a", Flatten(), ()), r"Flatten\(\) does not take 0 inputs"),
        (lambda: builder().add("a", None, (-1,)), "layer must be a Layer, got None"),
        (lambda: builder().add(3, Flatten(), (-1,)), "name must be text, got 3"),
        (lambda: model().append(Flatten(), []), r"layer name \[\] must be non-empty"),
        (lambda: model().draw(5), "a path must be a str or a Path, got 5"),
        (lambda: model().save("\ud800"), "cannot be a path"),
        (lambda: model().save("a.PT"), r"call it \.safetensors, which PyTorch reads with"),
        (lambda: save_state(model(), "a.onnx"), r"call it \.safetensors; .*export_onnx"),
        (lambda: model().features(X, np.array(2)), "layers must be a name or a list of names"),
        (lambda: grad_cam(model(), X, layer=np.zeros(3)), "a layer's name must be text"),
        (lambda: fastcnn.fit(model(), (X, Y), metrics=int), "metrics must be names, functions of"),
        (lambda: NamedRecipe("a", "x"), "recipe a: settings must be a table, got 'x'"),
        (lambda: NamedRecipe("a", RECIPE | {"model": {"name": []}}), "model must be one of"),
        (
            lambda: NamedRecipe("a", RECIPE | {"model": {"name": "lenet5", "initial": {}}}),
            "initial must be one of",
        ),
        (lambda: NamedRecipe("a", RECIPE).changed(3), "changes must be a table, got 3"),
        (lambda: NamedRecipe("a", RECIPE).make_model((X, Y)), "a recipe takes a Dataset"),
        (lambda: NamedRecipe("a", RECIPE).prepared(None), "a recipe takes a Dataset"),
        (lambda: NamedRecipe("a", whitened(images=-1)), "whiten.images must be a positive integer"),
        (
            lambda: NamedRecipe("a", whitened(eps=None)),
            "whiten.eps must be a finite number",
        ),
        (lambda: records(None), "a path must be a str or a Path, got None"),
        (lambda: CNNClassifier(model(), class_weight=True).fit(X, Y), "class_weight must be 'bal"),
        (
            lambda: CNNClassifier(model(), class_weight=X).fit(X, Y),
            "class_weight must be 'balanced",
        ),
        (
            lambda: CNNClassifier(model(), metrics=X).fit(X, Y),
            "metrics must be names, functions of",
        ),
        (lambda: CNNClassifier(model(), gray=X).fit(X, Y), "gray are for X of paths"),
        (
            lambda: CNNClassifier(model(), threads="2").fit(X, Y),
            "threads must be a positive integer",
        ),
    ],
)
def test_no_bare_error_of_python(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((ConfigurationError, DataError), match=message):
        call()


def test_lists_become_tuples() -> None:
    cross_entropy, mse = fastcnn.losses.CrossEntropyLoss(), fastcnn.losses.MSELoss()
    losses = fastcnn.losses.JointLoss([cross_entropy, mse])  # type: ignore[arg-type]
    assert losses == fastcnn.losses.JointLoss((cross_entropy, mse))
    preprocessing = fastcnn.data.Preprocessing((0.5,), (1.0,))
    data = fastcnn.data.Dataset(X, Y.astype(np.int64), ["a", "b"], preprocessing)  # type: ignore[arg-type]
    assert data.classes == ("a", "b")


def test_arrays_without_dimensions_are_numbers() -> None:
    size, two = np.array(3), np.array(2)
    layer = Conv2d(1, 2, size, stride=two)  # type: ignore[arg-type]
    assert layer.output_shape((1, 7, 7)) == (2, 3, 3)
    upsample = fastcnn.Upsample(scale_factor=two)  # type: ignore[arg-type]
    assert upsample.output_shape((1, 7, 7)) == (1, 14, 14)


def test_flatten_takes_what_pytorch_users_write() -> None:
    for layer in (Flatten(), Flatten(1), Flatten(start_dim=1, end_dim=-1)):
        assert repr(layer) == "Flatten()"
        assert layer.output_shape((2, 3, 4)) == (24,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fastcnn.session(model(), threads=10**30), "threads must be .* at most 1,024"),
        (lambda: fastcnn.session(model(), max_batch=2**62), "max_batch must be .* at most 2,147"),
        (lambda: fastcnn.plan(model(), threads=2**62), "threads must be .* at most 1,024"),
        (lambda: fastcnn.fit(model(), (X, Y), batch_size=10**30), "batch_size must be .* at most"),
        (lambda: fastcnn.fit(model(), (X, Y), accumulate=2**62), "accumulate must be .* at most"),
        (lambda: fastcnn.fit(model(), (X, Y), epochs=2**62), "epochs must be .* at most"),
        (
            lambda: fastcnn.compare_backends(model(), X, Y, backends=None),  # type: ignore[arg-type]
            "backends must be a tuple of names, got None",
        ),
        (
            lambda: fastcnn.gradcheck(backends="lanes"),
            "gradcheck: backends must be a tuple of name",
        ),  # type: ignore[arg-type]
        (lambda: fastcnn.data.Dataset([[1]], Y, ("a",), None), "images must be a NumPy array"),  # type: ignore[arg-type]
        (lambda: fastcnn.data.Dataset(X, Y, 3, None), "classes must be a tuple of names, got 3"),  # type: ignore[arg-type]
        (lambda: fastcnn.data.read_image("a.png", 3), r"shape \(1, H, W\) or .*, not 3"),  # type: ignore[arg-type]
        (lambda: fastcnn.data.read_image("a.png", (1, "8", 8)), "shape must be a positive integer"),  # type: ignore[arg-type]
        (lambda: fastcnn.data.read_picture("a.png", 3), "pictures must be a Pictures, got 3"),  # type: ignore[arg-type]
        (lambda: fastcnn.data.write_npz("a.npz", X, X), "train must be a Dataset"),  # type: ignore[arg-type]
        (lambda: sweep((X, Y), [{}]), "sweep takes a Dataset of fastcnn.data"),  # type: ignore[arg-type]
        (lambda: sweep(DATA, [{}], test=(X, Y)), "sweep takes a Dataset"),  # type: ignore[arg-type]
        (lambda: sweep(DATA, "lr=0.1"), "settings must be a list of dictionaries, .* got 'lr"),  # type: ignore[arg-type]
        (lambda: sweep(DATA, [{1: 2}]), "must be a list of dictionaries, .* got {1: 2} in"),  # type: ignore[dict-item]
        (lambda: fastcnn.data.write_idx("a", [[1], [2, 3]]), "write_idx: array: not an array"),  # type: ignore[arg-type]
        (
            lambda: fastcnn.data.load("digits", validation_split="no"),  # type: ignore[call-overload]
            "validation_split must be True or False",
        ),
    ],
)
def test_counts_and_data_of_the_wrong_kind(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((ConfigurationError, DataError), match=message):
        call()


@pytest.mark.parametrize(
    ("x", "hint"),
    [
        (X[0], r"x\[None\]"),
        (X[:, 0], rf"if these are {len(X)} samples, .* x\[:, None\]"),
        (X.swapaxes(1, 3), r"x\.transpose\(0"),
    ],
)
def test_samples_of_another_layout_are_refused_with_what_to_do(x: np.ndarray, hint: str) -> None:
    for use in (model().predict, lambda x: fastcnn.fit(model(), (x, Y[: len(x)]))):
        with pytest.raises(ShapeError, match=hint):
            use(x)
