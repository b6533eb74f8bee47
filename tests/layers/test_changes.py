"""A model that is changed after its first use notices, or refuses the change by name."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends import BACKENDS
from fastcnn.data.dataset import ArrayDataset
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.execution import loss_and_gradients, make_executor
from fastcnn.execution.passes import predict_logits
from fastcnn.execution.step import Step
from fastcnn.layers import (
    ELU,
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)
from fastcnn.optim import SGD, AdamW

generator = np.random.default_rng(0)
X = generator.standard_normal((8, 2, 8, 8)).astype(np.float32)
Y = np.arange(8) % 3


def network() -> Sequential:
    return Sequential(
        {
            "conv": Conv2d(2, 4, 3, padding=1, seed=0),
            "bn": BatchNorm2d(4),
            "act": LeakyReLU(0.1),
            "drop": Dropout(0.4),
            "block": Residual(Sequential({"conv": Conv2d(4, 4, 1, seed=1), "elu": ELU()})),
            "pool": AvgPool2d(2, padding=1),
            "flat": Flatten(),
            "fc": Linear(100, 3, seed=2),
        },
        input_shape=(2, 8, 8),
    )


def results(model: Sequential, backend: str) -> list[np.ndarray]:
    """All results that a stale graph could affect: logits, loss, gradients, statistics."""
    x, y = X[:2], Y[:2]  # the loops of reference are slow
    loss, outputs, gradient = loss_and_gradients(model, x, y, backend=backend, step=Step(True, 3))
    state = np.concatenate([value.ravel() for value in model.state_dict().values()])
    return [model.logits(x, backend=backend), np.array(loss), outputs, gradient, state]


def with_stride(model: Sequential) -> None:
    model["pool"].stride = (4, 4)  # type: ignore[attr-defined]
    model.replace("fc", Linear(36, 3, seed=7))


def with_another_shape(model: Sequential) -> None:
    model.layers["fc"] = Linear(16, 3, seed=2)
    model.layers["pool"] = AvgPool2d(4)


def without_layers(model: Sequential) -> None:
    del model.layers["drop"]
    model.layers.pop("act")


def with_other_layers(model: Sequential) -> None:
    model.layers = {"conv": model["conv"], "flat": Flatten(), "fc": Linear(256, 3, seed=1)}


def swapped(model: Sequential) -> None:
    conv: Any = model["block.main.conv"]
    conv.weight = conv.weight[::-1]
    conv.bias = conv.bias[::-1]


def retyped(model: Sequential) -> None:
    model.to(np.float64).to(np.float32)


def set_to(path: str, name: str, value: Any) -> Callable[[Sequential], None]:
    return lambda model: setattr(model[path], name, value)


CHANGES: dict[str, Callable[[Sequential], Any]] = {
    "head": lambda m: m.replace("fc", Linear(100, 20, seed=5)),
    "equal head": lambda m: m.replace("fc", Linear(100, 3, seed=5)),
    "inside a block": lambda m: m.replace("block.main.elu", LeakyReLU(0.7)),
    "block's layers": lambda m: m["block.main"].append(Conv2d(4, 4, 3, padding=1, seed=9)),
    "appended": lambda m: m.append(Linear(3, 5, seed=9), "head"),
    "removed": without_layers,
    "all layers": with_other_layers,
    "shape": with_another_shape,
    "p": set_to("drop", "p", 0.1),
    "no dropout": set_to("drop", "p", 0.0),
    "momentum": set_to("bn", "momentum", 0.7),
    "plain mean": set_to("bn", "momentum", None),
    "eps": set_to("bn", "eps", 0.3),
    "slope": set_to("act", "negative_slope", 0.9),
    "alpha": set_to("block.main.elu", "alpha", 2.0),
    "stride": with_stride,
    "padding counts": set_to("pool", "count_include_pad", False),
    "dilation": lambda m: (set_to("conv", "dilation", 2)(m), set_to("conv", "padding", "same")(m)),
    "weight": set_to("fc", "weight", np.ones((3, 100), np.float32)),
    "reversed weight": swapped,
    "parameters": set_to("conv", "parameters", {
        "weight": np.ones((4, 2, 3, 3), np.float32), "bias": np.full(4, 0.5, np.float32)}),
    "an array of buffers": set_to("bn", "running_mean", np.ones(4, np.float32)),
    "buffers": lambda m: m["bn"].buffers.update(running_var=np.full(4, 9.0, np.float32)),
    "new normalisation": lambda m: m.replace("bn", BatchNorm2d(4, track_running_stats=False)),
    "type": retyped,
}  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_is_as_if_made_so(change: str, backend: str) -> None:
    model = network()
    results(model, backend)
    CHANGES[change](model)
    # A copy keeps nothing from before the change.
    wanted = results(copy.deepcopy(model), "im2col")
    for found, value in zip(results(model, backend), wanted, strict=True):
        assert found.shape == value.shape
        assert found == pytest.approx(value, rel=1e-4, abs=1e-4)


REFUSED: list[tuple[Callable[[Sequential], Any], str]] = [
    (set_to("drop", "p", 2), "Dropout: p must be between 0 and 1, got 2"),
    (set_to("bn", "momentum", 1.5), "BatchNorm2d: momentum must lie in 0..1"),
    (set_to("bn", "eps", "small"), "BatchNorm2d: eps must be a finite number"),
    (set_to("act", "negative_slope", None), "LeakyReLU: negative_slope must be a finite number"),
    (set_to("conv", "stride", 0), "stride must be an integer of at least 1"),
    (set_to("conv", "kernel_size", 5), r"kernel_size=5 needs parameters .*\(4, 2, 5, 5\)"),
    (set_to("conv", "groups", 3), "groups=3 must divide"),
    (set_to("fc", "out_features", 4), "out_features=4 needs parameters"),
    (set_to("bn", "track_running_stats", False), "track_running_stats=False needs buffers"),
    (set_to("bn", "affine", False), "affine=False needs parameters"),
    (set_to("fc", "weight", np.ones((3, 99), np.float32)), r"weight must be .* shape \(3, 100\)"),
    (set_to("fc", "weight", np.ones((3, 100), np.int64)), "float32 or float64, .* type int64"),
    (set_to("fc", "bias", None), "bias must be an array"),
    (set_to("fc", "parameters", {"weight": np.ones((3, 100))}), "parameters are weight, bias"),
    (lambda m: m["fc"].parameters.update(scale=np.ones(3)), "Linear has no array 'scale'"),
    (set_to("fc", "require_grad", False), "Linear has nothing called 'require_grad' to set"),
    (set_to("fc", "trainable", False), "it has .*bias.*requires_grad.*weight"),
    (set_to("fc", "requires_grad", 0.0), "requires_grad must be True or False"),
    (set_to("fc", "operation", "relu"), "nothing called 'operation'"),
    (lambda m: setattr(m, "fc", Linear(100, 2)), "Sequential has nothing called 'fc'"),
    (lambda m: m.layers.update(fc=ReLU), "layer 'fc' must be a Layer"),
    (lambda m: m.layers.update({"a.b": ReLU()}), "non-empty, without dots"),
    (lambda m: m.layers.update({"a\udcff": ReLU()}), "is not Unicode"),
    (lambda m: m.replace("head", ReLU()), "there is no layer 'head'"),
    (lambda m: m.replace("fc.0", ReLU()), "there is no layer 'fc.0'; there are conv, bn"),
    (lambda m: m.append(ReLU(), "fc"), "there already is a layer 'fc'"),
    (lambda m: setattr(m, "input_shape", (2, 0, 8)), "input_shape must be a tuple of positive"),
    (lambda m: setattr(m, "input_shape", 8), "input_shape must be a tuple of positive"),
    (lambda m: setattr(GlobalAvgPool2d(), "output_size", 2), "use AdaptiveAvgPool2d"),
    (lambda m: m["fc"].__delattr__("weight"), "'weight' cannot be deleted"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    change: Callable[[Sequential], Any], message: str
) -> None:
    model = network()
    before, graph = model.copy_state(), repr(model)
    with pytest.raises(ConfigurationError, match=message):
        change(model)
    assert repr(model) == graph
    assert all((before[key] == value).all() for key, value in model.state_dict().items())


def test_what_no_longer_fits_together_is_said_at_the_next_use() -> None:
    model = network()
    model.logits(X)
    model.replace("conv", Conv2d(2, 5, 3, padding=1, seed=0))
    with pytest.raises(ShapeError, match="layer 'bn'"):
        model.logits(X)
    model.replace("bn", BatchNorm2d(5))
    model.replace("block", LeakyReLU())
    model.replace("fc", Linear(125, 3, seed=0))
    assert model.logits(X).shape == (8, 3)


def test_types_are_not_mixed() -> None:
    model = network()
    model.replace("fc", Linear(100, 3, seed=5, dtype=np.float64))
    with pytest.raises(ConfigurationError, match=r"conv.weight is float32, fc.weight is float64"):
        model.logits(X)
    assert model.to(np.float32).logits(X).dtype == np.float32


def test_a_model_does_not_contain_itself() -> None:
    model = network()
    model.layers["self"] = model
    with pytest.raises(ConfigurationError, match="contains itself"):
        model.logits(X)


@pytest.mark.parametrize("backend", ["lanes", "im2col"])
def test_training_goes_on_with_changed_arguments(backend: str) -> None:
    model = network()
    executor = make_executor(
        model, loss=fastcnn.CrossEntropyLoss(), optimizer=SGD(momentum=0.9), backend=backend,
        batch_size=8,
    )  # fmt: skip
    order = np.arange(8)
    executor.train_steps(ArrayDataset(X, Y), order, np.array([0.1]))
    twin, velocity = copy.deepcopy(model), next(iter(executor.optimizer_state().values())).copy()
    for changed in (model, twin):
        changed["drop"].p = 0.0  # type: ignore[attr-defined]
        changed["act"].negative_slope = 0.5  # type: ignore[attr-defined]
    _, _, gradient = loss_and_gradients(twin, X, Y, backend="im2col")
    wanted = twin.parameter_vector - 0.1 * (0.9 * velocity + gradient)
    executor.train_steps(ArrayDataset(X, Y), order, np.array([0.1]))
    assert model.parameter_vector == pytest.approx(wanted, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("backend", ["lanes", "im2col"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.replace("fc", Linear(100, 20, seed=5)), r"fc.weight had shape \(3, 100\)"),
        (lambda m: m.replace("fc", Linear(100, 3, seed=5)), "fc.weight belongs to another layer"),
        (lambda m: m.append(Linear(3, 3, seed=5)), "8.weight was added"),
        (lambda m: m.to(np.float64), "type float32, now .*float64"),
        (lambda m: m.layers.pop("block"), "block.main.conv.weight was removed"),
    ],
)
def test_training_does_not_go_on_with_other_parameters(
    change: Callable[[Sequential], Any], message: str, backend: str
) -> None:
    model = network()
    executor = make_executor(
        model, loss=fastcnn.CrossEntropyLoss(), optimizer=AdamW(), backend=backend, batch_size=8
    )
    arguments = (ArrayDataset(X, Y), np.arange(8), np.array([0.1]))
    executor.train_steps(*arguments)
    change(model)
    with pytest.raises(ConfigurationError, match=message):
        executor.train_steps(*arguments)


def test_a_callback_may_change_arguments_and_not_the_parameters() -> None:
    class Change(fastcnn.training.Callback):
        def __init__(self, change: Callable[[Sequential], Any]) -> None:
            self.change = change

        def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
            self.change(model)

    model = network()
    fastcnn.fit(model, (X, Y), epochs=2, diagnose=False, callbacks=[Change(CHANGES["no dropout"])])
    with pytest.raises(ConfigurationError, match="Start another training run"):
        fastcnn.fit(model, (X, Y), epochs=2, diagnose=False, callbacks=[Change(CHANGES["head"])])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_notices_its_own_changes_alone(copied: Callable[[Any], Any]) -> None:
    model = network()
    before = model.logits(X)
    other = copied(model)
    assert (other.logits(X) == before).all()
    other["act"].negative_slope = 0.9
    other.layers["fc"].weight = np.ones((3, 100), np.float32)
    assert (other.logits(X) != before).any()
    assert (model.logits(X) == before).all()
    assert repr(other["act"]) != repr(model["act"])
    with pytest.raises(ConfigurationError, match="p must be"):
        other["drop"].p = -1


class Scale(Layer):
    """A user's own layer with state that is not an argument of its constructor."""

    operation = "leaky_relu"

    def __init__(self) -> None:
        super().__init__()
        self.slope = 0.5

    @property
    def arguments(self) -> dict[str, Any]:
        return {"negative_slope": self.slope}


class Narrow(Conv2d):
    """A user's own convolution with a different constructor."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 3, 3, seed=0)


def test_layers_of_a_user_are_noticed_too() -> None:
    model = Sequential(Scale(), Narrow(2), Flatten(), input_shape=(2, 8, 8))
    first = model.logits(X)
    model["0"].slope = 0.25  # type: ignore[attr-defined]
    second = model.logits(X)
    assert np.abs(second - first).max() > 1e-3
    model["1"].stride = 3  # type: ignore[attr-defined]
    assert model["1"].stride == (3, 3)  # type: ignore[attr-defined]
    assert model.logits(X).shape == (8, 12)
    with pytest.raises(ConfigurationError, match="nothing called 'slop'"):
        model["0"].slop = 1.0  # type: ignore[attr-defined]


def test_a_layer_of_two_models_is_trained_in_both() -> None:
    body = Linear(4, 4, seed=0)
    models = [Sequential(body, Linear(4, n, seed=n), input_shape=(4,)) for n in (2, 3)]
    x = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    for model in (*models, *models):
        before = body.weight.copy()
        fastcnn.fit(model, (x, np.arange(6) % 2), epochs=1, diagnose=False)
        assert (body.weight != before).any()
        for other in models:
            assert (other.state_dict()["0.weight"] == body.weight).all()
            wanted = predict_logits(other, x, backend="reference")
            assert other.logits(x) == pytest.approx(wanted, abs=1e-6)


def test_layers_by_name_path_and_place() -> None:
    model = network()
    assert len(model) == 8
    assert model["fc"] is model[-1] is model.layers["fc"]
    assert isinstance(model["block.main.conv"], Conv2d)
    assert next(iter(model)) is model[0]
    assert "fc" in model
    assert model["fc"] in model
    assert "head" not in model
    assert (model(X) == model.logits(X)).all()
    with pytest.raises(IndexError, match="the model has 8 layers"):
        model[8]
    assert [value.shape for value in model["fc"].parameters()] == [(3, 100), (3,)]
    assert list(model.parameters) == list(model.named_parameters())
    assert sum(value.size for value in model.parameters()) == model.num_parameters > 0
    assert list(model.buffers) == ["bn.running_mean", "bn.running_var", "bn.num_batches_tracked"]
    with pytest.raises(TypeError):
        model.parameters["fc.bias"] = np.zeros(3)  # type: ignore[index]


def test_every_argument_of_pooling_and_transposed_convolution_can_be_set() -> None:
    layers: list[tuple[Layer, str, Any]] = [
        (MaxPool2d(2), "kernel_size", 3), (MaxPool2d(2), "stride", None),
        (AdaptiveAvgPool2d(2), "output_size", (3, None)),
        (ConvTranspose2d(2, 2, 3, stride=2, seed=0), "output_padding", 1),
    ]  # fmt: skip
    for layer, name, value in layers:
        model = Sequential(layer, input_shape=(2, 8, 8))
        model.logits(X)
        setattr(layer, name, value)
        wanted = predict_logits(copy.deepcopy(model), X, backend="reference")
        assert model.logits(X) == pytest.approx(wanted, abs=1e-5)


def test_parameters_begin_with_a_line_of_the_cache() -> None:
    """Also those of a copy, whose memory numpy allocates."""
    models = [Sequential(Linear(3, size, seed=0), input_shape=(3,)) for size in range(1, 9)]
    models += [copy.deepcopy(model) for model in models]
    models += [pickle.loads(pickle.dumps(model)) for model in models]
    for model in models:
        before = {key: value.copy() for key, value in model.state_dict().items()}
        assert model.parameter_vector.ctypes.data % 64 == 0
        for key, value in model.state_dict().items():
            np.testing.assert_array_equal(value, before[key])
