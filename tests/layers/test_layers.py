"""Descriptions: shapes, parameters, state, summaries."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.errors import CheckpointError, ConfigurationError, ShapeError
from fastcnn.layers import (
    GELU,
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool2d,
    Identity,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Softplus,
    init,
)
from fastcnn.models import lenet5, report_cnn, resnet8, vgg_small


def test_a_class_with_a_forward_method_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Net: forward would never be called"):

        class Net(Sequential):
            def forward(self, x: Any) -> Any:
                return x


@pytest.mark.parametrize("named", ["", "frobnicate"])
def test_a_layer_without_an_operation_is_refused(named: str) -> None:
    class Mine(Layer):
        operation = named

    with pytest.raises(ConfigurationError, match="layer '0': Mine names no operation of fastcnn"):
        Sequential(Mine(), input_shape=(3,)).graph()


def test_report_network_has_the_reports_sizes() -> None:
    model = report_cnn(seed=0)
    shapes = {node.name: node.output_shape for node in model.graph().nodes}
    assert shapes["pool1"] == (4, 14, 14)
    assert shapes["pool2"] == (8, 7, 7)
    assert shapes["flatten"] == (392,)
    assert shapes["fc3"] == (3,)
    state = model.state_dict()
    assert state["conv2.weight"].shape == (8, 4, 3, 3)
    assert state["fc1.weight"].shape == (128, 392)
    assert model.num_parameters == 67_539


@pytest.mark.parametrize(
    ("factory", "shape"), [(lenet5, (1, 28, 28)), (vgg_small, (3, 32, 32)), (resnet8, (3, 32, 32))]
)
def test_other_networks_run(factory: Callable[..., Any], shape: tuple[int, ...]) -> None:
    model = factory(seed=1)
    assert model.predict_proba(np.zeros((2, *shape))).sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_maps_grow_and_shrink() -> None:
    model = Sequential(
        ConvTranspose2d(1, 4, 3, stride=2, padding=1, output_padding=1), GlobalAvgPool2d(),
        input_shape=(1, 7, 7),
    )  # fmt: skip
    shapes = [node.output_shape for node in model.graph().nodes]
    assert shapes == [(4, 14, 14), (4, 1, 1)]
    assert model.state_dict()["0.weight"].shape == (1, 4, 3, 3)
    # 2 * 36 products from each of 49 pixels, and a bias on each of 4 x 14 x 14; then the mean.
    assert model.flops((1, 7, 7)) == 72 * 49 + 784 + 784


def test_models_inside_models_are_shown_indented() -> None:
    model = Sequential({"block": Residual(Sequential(ReLU()))})
    assert repr(model).splitlines() == [
        "Sequential(",
        "  (block): Residual(",
        "    (main): Sequential(",
        "      (0): ReLU()",
        "    )",
        "  )",
        ")",
    ]


def test_seed_decides_the_weights() -> None:
    first, same, other = (report_cnn(seed=seed).parameter_vector for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()


def test_summary_counts() -> None:
    text = Sequential(Conv2d(1, 2, 3), ReLU(), input_shape=(1, 5, 5)).summary()
    # 2 * 9 weights and a bias on each of 2 x 3 x 3 outputs; ReLU one each.
    assert "(2, 3, 3)" in text
    assert text.splitlines()[2].endswith("20    342")
    assert text.splitlines()[-1].endswith("20    360")


def test_parameters_are_views_of_one_vector() -> None:
    model = report_cnn(seed=0)
    vector = model.parameter_vector
    vector[...] = np.arange(vector.size)
    joined = np.concatenate([value.ravel() for value in model.state_dict().values()])
    assert (joined == vector).all()
    assert model.layers["conv1"].weight[0, 0, 0, 1] == 1  # type: ignore[attr-defined]


def test_a_model_inside_a_model_shares_its_parameters() -> None:
    block = Sequential({"conv": Conv2d(1, 1, 1), "act": ReLU()})
    block.parameter_vector[...] = 5
    model = Sequential({"block": block, "flat": Flatten(), "fc": Linear(4, 2)})
    assert next(iter(model.state_dict())) == "block.conv.weight"
    model.state_dict()["block.conv.weight"][...] = 7
    assert block.state_dict()["conv.weight"].item() == 7
    assert model.predict(np.zeros((1, 1, 2, 2))).shape == (1,)


def test_load_state_dict_changes_nothing_unless_all_fits() -> None:
    model, other = report_cnn(seed=0), report_cnn(seed=1)
    state = {key: value.copy() for key, value in other.state_dict().items()}
    before = model.parameter_vector.copy()
    with pytest.raises(CheckpointError, match=r"fc3.bias: the model has shape \(3,\)"):
        model.load_state_dict({**state, "fc3.bias": np.zeros(4)})
    with pytest.raises(CheckpointError, match=r"missing \['fc3.bias'\], unexpected \['extra'\]"):
        model.load_state_dict(
            {**{k: v for k, v in state.items() if k != "fc3.bias"}, "extra": np.zeros(1)}
        )
    assert (model.parameter_vector == before).all()
    model.load_state_dict(state)
    assert (model.parameter_vector == other.parameter_vector).all()
    model.load_state_dict({"fc3.bias": np.ones(3)}, strict=False)
    assert model.state_dict()["fc3.bias"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("initializer", "std"),
    [
        (init.Kaiming(), np.sqrt(2 / 400)),
        (init.Kaiming("uniform"), np.sqrt(2 / 400)),
        (init.Xavier(), np.sqrt(2 / 700)),
        (init.Xavier("normal", gain=2.0), 2 * np.sqrt(2 / 700)),
        (init.Normal(1e-5), 1e-5),
        (init.DEFAULT_WEIGHT, 1 / np.sqrt(3 * 400)),
    ],
)
def test_initialiser_spread(initializer: init.Initializer, std: float) -> None:
    layer = Linear(400, 300, weight_init=initializer, seed=0)
    assert layer.weight.std() == pytest.approx(std, rel=0.02)
    assert abs(layer.weight.mean()) < 0.02 * std


def test_convolution_fans_count_one_group() -> None:
    assert init.fans((8, 3, 5, 2)) == (30, 80)


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: Conv2d(0, 1, 3), ConfigurationError, "in_channels must be a positive integer, got 0"),
    (lambda: Conv2d(3, 4, 3, groups=2), ConfigurationError, "groups=2 must divide"),
    (lambda: Conv2d(1, 1, 3, padding="same", stride=2), ConfigurationError, "needs stride 1"),
    (lambda: Conv2d(1, 1, (3, 0)), ConfigurationError, "kernel_size must be"),
    (lambda: MaxPool2d(2, padding=2), ConfigurationError, "at most half"),
    (lambda: AvgPool2d(-1), ConfigurationError, "kernel_size"),
    (lambda: Linear(2.5, 3), ConfigurationError, "in_features must be a positive integer"),  # type: ignore[arg-type]
    (lambda: Dropout(1.1), ConfigurationError, "p must be between 0 and 1"),
    (lambda: GELU("erf"), ConfigurationError, "GELU: approximate must be one of none, tanh"),
    (lambda: Softplus(-1.0), ConfigurationError, "Softplus: beta must be a finite number above 0"),
    (lambda: BatchNorm2d(0), ConfigurationError, "num_features must be a positive integer"),
    (lambda: BatchNorm2d(3, momentum=2.0), ConfigurationError, r"momentum must lie in 0\.\.1"),
    (lambda: BatchNorm2d(3).output_shape((3,)), ShapeError, r"\(3, H, W\), got \(3,\)"),
    (lambda: BatchNorm1d(3).output_shape((3, 2, 2)), ShapeError, r"of shape \(3,\), got"),
    (lambda: Sequential(Identity()).graph((4,)), ConfigurationError, "computes nothing"),
    (lambda: ConvTranspose2d(3, 4, 3, groups=2), ConfigurationError, "groups=2 must divide"),
    (lambda: ConvTranspose2d(3, 4, 3, 2, output_padding=2), ConfigurationError, "must be below"),
    (lambda: Dropout2d(0.5).output_shape((4,)), ShapeError, r"\(C, H, W\), got \(4,\)"),
    (lambda: Dropout2d(-0.1), ConfigurationError, "Dropout2d: p must be between 0"),
    (lambda: AdaptiveAvgPool2d(-1), ConfigurationError, "output_size"),
    (lambda: Sequential(), ConfigurationError, "at least one layer"),
    (lambda: Sequential({"a.b": ReLU()}), ConfigurationError, "without dots"),
    (lambda: Sequential(ReLU), ConfigurationError, "must be a Layer"),  # type: ignore[arg-type]
    (lambda: init.Normal(-1.0), ConfigurationError, "std must be"),
    (lambda: report_cnn("gelu"), ConfigurationError, "activation must be one of"),
    (lambda: fastcnn.CrossEntropyLoss(1.5), ConfigurationError, "label_smoothing"),
    (
        lambda: Sequential(Conv2d(3, 4, 3), input_shape=(1, 8, 8)),
        ShapeError,
        r"layer '0', Conv2d\(3, 4.*expects samples of shape \(3, H, W\), got \(1, 8, 8\)",
    ),
    (
        lambda: Sequential(Conv2d(1, 4, 9), input_shape=(1, 8, 8)),
        ShapeError,
        "kernel of size 9 .* larger than the padded input of size 8",
    ),
    (
        lambda: Sequential(Conv2d(1, 4, 3), Linear(9, 2), input_shape=(1, 8, 8)),
        ShapeError,
        r"layer '1'.*\(9,\), got \(4, 6, 6\); put a Flatten before it",
    ),
    (
        lambda: Residual(Conv2d(1, 4, 3)).graph((1, 8, 8)),
        ShapeError,
        r"layer 'add', Add\(\): expects two inputs of equal shape, got \(4, 6, 6\) and \(1, 8, 8\)",
    ),
    (lambda: Sequential(Add()).graph((4,)), ConfigurationError, "Add joins branches"),
    (lambda: Sequential(ReLU()).graph(), ShapeError, "pass input_shape"),
    (lambda: report_cnn().predict(np.zeros((1, 28, 28))), ShapeError, r"x\[None\]"),
    (
        lambda: fastcnn.gradients(report_cnn(), np.zeros((0, 1, 28, 28)), []),
        ShapeError,
        "at least one sample",
    ),
    (lambda: report_cnn().to(int), ConfigurationError, "float32 or float64"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
