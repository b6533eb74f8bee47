"""Graph networks: joined branches, shared layers, files, changes."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.benchmark.pytorch import make_module
from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.layers import (
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Hardsigmoid,
    Hardswish,
    Identity,
    Input,
    Linear,
    MaxPool2d,
    Model,
    Multiply,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SqueezeExcite,
    Subtract,
)
from fastcnn.layers.definition import from_definition
from fastcnn.layers.description import to_definition


def unet() -> Model:
    """Two levels, whose maps are concatenated by channels."""
    x = Input((2, 12, 12))
    near = ReLU()(Conv2d(2, 4, 3, padding=1, seed=0)(x, name="near"))
    deep = ReLU()(Conv2d(4, 6, 3, padding=1, seed=1)(MaxPool2d(2)(near), name="deep"))
    up = ConvTranspose2d(6, 4, 2, stride=2, seed=2)(deep, name="up")
    y = ReLU()(Conv2d(8, 4, 3, padding=1, seed=3)(Concat()(near, up), name="joint"))
    return Model(x, Conv2d(4, 2, 1, seed=4)(y, name="pixels"))


def dense() -> Model:
    """Every layer reads all previous ones, as in DenseNet."""
    x = Input((2, 8, 8))
    y = Conv2d(2, 4, 3, padding=1, seed=0)(x)
    for index in range(3):
        z = ReLU()(BatchNorm2d(4 + 3 * index)(y))
        y = Concat()(y, Conv2d(4 + 3 * index, 3, 3, padding=1, seed=index)(z))
    return Model(x, Linear(13, 3, seed=9)(Flatten()(GlobalAvgPool2d()(ReLU()(y)))))


def excited() -> Model:
    """Squeeze-and-excitation, and a gate for each pixel."""
    x = Input((3, 7, 9))
    y = Conv2d(3, 8, 3, padding=1, seed=0)(x)
    gate = ReLU()(Conv2d(8, 2, 1, seed=1)(GlobalAvgPool2d()(y)))
    y = Sigmoid()(Conv2d(2, 8, 1, seed=2)(gate)) * y
    y = ReLU()(y * Sigmoid()(Conv2d(8, 1, 3, padding=1, seed=3)(y)))
    return Model(x, Linear(8 * 7 * 9, 4, seed=4)(Flatten()(y)))


def twice() -> Model:
    """One convolution used twice, whose outputs are subtracted, concatenated and multiplied."""
    x = Input((2, 9, 9))
    conv = Conv2d(2, 2, 3, padding=1, seed=0)
    once = conv(x, name="conv")
    again = conv(ReLU()(once))
    y = Concat()(again - once, Multiply()(again, again), once, once)
    return Model(x, Linear(8 * 16, 5, seed=1)(Flatten()(MaxPool2d(2)(Dropout(0.0)(y)))))


def nested() -> Model:
    """A model as a layer, with concatenated vectors."""
    x = Input((1, 8, 8))
    block = Residual(Sequential(Conv2d(1, 1, 3, padding=1, seed=0), ReLU()))
    y = block(x, name="block")
    a, b = Input((1, 8, 8)), Linear(64, 5, seed=1)
    part = Model(a, Sigmoid()(b(Flatten()(a))))
    one, two = part(y, name="part"), Linear(64, 3, seed=2)(Flatten()(y))
    return Model(x, Linear(8, 3, seed=3)(Concat()(one, two)))


def mobile() -> Sequential:
    """Blocks with squeeze-and-excitation, as in MobileNetV3."""
    block = Sequential(
        Conv2d(4, 4, 3, padding=1, groups=4, seed=1), BatchNorm2d(4), Hardswish(),
        SqueezeExcite(4, 2, scale_activation=Hardsigmoid(), seed=2), Conv2d(4, 4, 1, seed=3),
    )  # fmt: skip
    head = (SqueezeExcite(4, 1, seed=4), GlobalAvgPool2d(), Flatten(), Linear(4, 3, seed=5))
    return Sequential(
        Conv2d(1, 4, 3, stride=2, seed=0), Residual(block), *head, input_shape=(1, 9, 9)
    )


def siamese() -> Model:
    """Two images through one trunk, and values that belong to both."""
    left, right, more = Input((1, 9, 9), "left"), Input((1, 9, 9), "right"), Input((3,), "more")
    trunk = Sequential(
        Conv2d(1, 4, 3, padding=1, seed=0), ReLU(), MaxPool2d(2), Flatten(), Linear(64, 6, seed=1)
    )
    difference = trunk(left, name="trunk") - trunk(right)
    y = Concat()(difference * difference, more)
    return Model((left, right, more), Linear(9, 3, seed=2)(y, name="head"))


def towers() -> Model:
    """Two maps of different shape, each with its own tower."""
    small, large = Input((3, 6, 5), "small"), Input((1, 14, 14), "large")
    pooled = Model(large, MaxPool2d(2)(Conv2d(1, 2, 3, seed=0)(large)))
    y = Concat()(Conv2d(3, 4, (1, 1), seed=1)(small), Conv2d(2, 4, (1, 2), seed=2)(pooled(large)))
    return Model((small, large), Linear(240, 4, seed=3)(Flatten()(y)))


MODELS = {
    "siamese": siamese,
    "towers": towers,
    "mobile": mobile,
    "unet": unet,
    "dense": dense,
    "excited": excited,
    "twice": twice,
    "nested": nested,
}


def data(model: Model, count: int = 19) -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(0)
    assert model.input_shape is not None
    output = model.graph().output_shape
    x = r.standard_normal((count, *model.input_shape)).astype(np.float32)
    if len(output) == 1:
        return x, r.integers(0, output[0], count)
    return x, r.standard_normal((count, *output)).astype(np.float32)


def loss_of(model: Model) -> Any:
    flat = len(model.graph().output_shape) == 1
    return fastcnn.CrossEntropyLoss() if flat else fastcnn.MSELoss()


@pytest.mark.parametrize("name", MODELS)
def test_engine_computes_what_others_do(name: str, caplog: pytest.LogCaptureFixture) -> None:
    model = MODELS[name]()
    x, y = data(model)
    results = {
        backend: fastcnn.gradients(
            deepcopy(model), x, y, loss=loss_of(model), backend=backend, training=True
        )
        for backend in ("reference", "im2col", "lanes")
    }
    assert not [r for r in caplog.records if r.name == "fastcnn.lanes"]  # no fallback
    expected = results.pop("reference")
    for loss, gradients in results.values():
        assert loss == pytest.approx(expected[0], rel=1e-5)
        for key, value in gradients.items():
            assert value == pytest.approx(expected[1][key], abs=2e-6), key
    for count in (1, 3, 17):
        ours = model.logits(x[:count])
        assert ours == pytest.approx(model.logits(x[:count], backend="im2col"), abs=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    model = MODELS[name]()
    x, y = data(model)
    state = {key: value.copy() for key, value in model.state_dict().items()}
    module = make_module(model.graph(), state, set(model.named_parameters())).double()
    output = module(torch.from_numpy(x.astype(np.float64)))
    wanted = torch.from_numpy(y)
    if len(output.shape) == 2:
        loss = torch.nn.functional.cross_entropy(output, wanted)
    else:
        loss = torch.nn.functional.mse_loss(output, wanted.double())
    loss.backward()
    value, gradients = fastcnn.gradients(model, x, y, loss=loss_of(model), training=True)
    assert value == pytest.approx(float(loss.detach()), rel=1e-5)
    for key, gradient in gradients.items():
        expected = getattr(module, module.names[key]).grad.numpy()
        assert gradient == pytest.approx(expected, abs=1e-5), key


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    x, _ = data(model)
    definition = json.loads(json.dumps(to_definition(model)))
    back = from_definition(definition)
    assert repr(back) == repr(model)
    assert to_definition(back) == definition
    model.save(tmp_path / "m.safetensors")
    loaded = fastcnn.load(tmp_path / "m.safetensors")
    assert (loaded.logits(x) == model.logits(x)).all()
    assert loaded.num_parameters == model.num_parameters
    copied = deepcopy(model)
    assert (copied.logits(x) == model.logits(x)).all()
    copied.parameter_vector[...] = 0
    assert not (copied.logits(x) == model.logits(x)).all()


@pytest.mark.parametrize("name", MODELS)
def test_training_resumes(name: str, tmp_path: Path) -> None:
    def run(out: Path, epochs: int, resume: bool = False) -> np.ndarray:
        model = MODELS[name]()
        fastcnn.fit(
            model, data(model, 48), epochs=epochs, batch_size=16, loss=loss_of(model), lr=0.01,
            optimizer="adam", out=out, resume=resume, threads=1,
        )  # fmt: skip
        return model.parameter_vector.copy()

    whole = run(tmp_path / "whole", 2)
    run(tmp_path / "parts", 1)
    assert (run(tmp_path / "parts", 2, resume=True) == whole).all()


@pytest.mark.torch
def test_squeeze_and_excitation_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    ours = Sequential(SqueezeExcite(6, 2, seed=0), input_shape=(6, 5, 4))
    x = np.random.default_rng(0).standard_normal((3, 6, 5, 4)).astype(np.float32)
    state = {key: torch.from_numpy(value) for key, value in ours["0"].state_dict().items()}
    nn = torch.nn.functional
    given = torch.from_numpy(x)
    factor = nn.conv2d(given.mean((2, 3), keepdim=True), state["fc1.weight"], state["fc1.bias"])
    factor = nn.conv2d(factor.relu(), state["fc2.weight"], state["fc2.bias"]).sigmoid()
    assert ours.logits(x) == pytest.approx((factor * given).numpy(), abs=1e-6)


def test_samples_of_several_inputs_are_given_by_place_or_name() -> None:
    model, r = siamese(), np.random.default_rng(0)
    left, right = r.integers(0, 256, (2, 5, 1, 9, 9), np.uint8)
    more = r.standard_normal((5, 3)).astype(np.float32)
    expected = model.logits((left, right, more))
    assert (model.logits({"more": more, "left": left, "right": right}) == expected).all()
    assert (model(left, right, more) == expected).all()
    floats = (left / np.float32(255), right / np.float32(255), more)
    assert model.logits(floats) == pytest.approx(expected, abs=1e-6)
    signs = model.logits((left, right, np.sign(more)))
    assert model.logits((left, right, np.sign(more).astype(int))) == pytest.approx(signs, abs=1e-6)
    history = fastcnn.fit(model, ((left, right, more), [0, 1, 2, 0, 1]), epochs=1, batch_size=2)
    assert np.isfinite(history.final["train_loss"])


@pytest.mark.parametrize(
    ("give", "error", "message"),
    [
        (lambda a, b: (a, a), ShapeError, "inputs left, right, more: give a tuple .* got 2"),
        (lambda a, b: a, ShapeError, "got ndarray"),
        (
            lambda a, b: {"left": a, "right": a},
            ShapeError,
            "for left, right, more, got left, right",
        ),
        (lambda a, b: (a, a, a), ShapeError, r"'more' takes samples of shape \(N, 3\)"),
        (lambda a, b: (a, a[:2], b), ShapeError, "'right' has 2 samples, 'left' 4"),
        (lambda a, b: (a, a, b + 1j), DataError, "'more': samples must be real numbers"),
    ],
)
def test_samples_of_several_inputs_that_do_not_fit(give: Any, error: Any, message: str) -> None:
    x = give(np.zeros((4, 1, 9, 9), np.float32), np.zeros((4, 3), np.float32))
    with pytest.raises(error, match=message):
        siamese().logits(x)
    with pytest.raises(error, match=f"train: .*{message}"):
        fastcnn.fit(siamese(), (x, np.zeros(4, int)), epochs=1)


def test_a_layer_called_twice_is_one_layer() -> None:
    model = twice()
    assert [key for key in model.state_dict() if key.startswith("conv")] == [
        "conv.weight", "conv.bias",
    ]  # fmt: skip
    assert [node.name for node in model.graph().nodes][:3] == ["conv", "relu_1", "conv#2"]
    assert "shared with conv" in model.summary()


def test_concat_is_written_without_copies() -> None:
    names = fastcnn.plan(dense(), batch_size=16).names
    assert not [name for name in names if "copy" in name]


def test_normalisation_is_folded_where_a_layer_is_used_once() -> None:
    x = Input((2, 6, 6))
    conv, other = Conv2d(2, 2, 3, padding=1, seed=0), Conv2d(2, 2, 3, padding=1, seed=1)
    norms = [BatchNorm2d(2) for _ in range(2)]
    y = norms[0](conv(x, name="conv")) + conv(norms[1](other(x, name="other")))
    model = Model(x, Linear(72, 3, seed=2)(Flatten()(y)))
    given, labels = data(model)
    fastcnn.fit(model, (given, labels), epochs=1, batch_size=8)
    folded = model.fold_batch_norm()
    assert sum(isinstance(layer, Identity) for layer in folded) == 1
    assert folded.logits(given) == pytest.approx(model.logits(given), abs=1e-5)


def test_layers_are_replaced_by_name() -> None:
    model = unet()
    x, _ = data(model)
    before = model.logits(x)
    model.replace("up", ConvTranspose2d(6, 4, 2, stride=2, seed=7))
    assert not (model.logits(x) == before).all()
    model.layers["relu_1"] = Identity()
    assert not any(node.name == "relu_1" for node in model.graph().nodes)
    model.replace("up", ConvTranspose2d(6, 5, 2, stride=2))
    with pytest.raises(ShapeError, match="layer 'joint'"):
        model.logits(x)
    del model.layers["up"]
    with pytest.raises(ConfigurationError, match="layer 'up' was removed"):
        model.logits(x)


def _two(x: Any) -> Any:
    return Conv2d(1, 2, 3)(x, name="a"), Conv2d(1, 2, 3)(x, name="a")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x: Conv2d(2, 2, 3)(x), ShapeError, r"Conv2d\(2, 2.*"),
        (lambda x: Concat()(x, MaxPool2d(2)(x)), ShapeError, "differ in their channels only"),
        (lambda x: Multiply()(x, Conv2d(1, 2, 3)(x)), ShapeError, r"\(C, 1, 1\)"),
        (lambda x: Subtract()(x), ConfigurationError, r"Subtract takes 2 input\(s\), got 1"),
        (lambda x: ReLU()(x, x), ConfigurationError, r"ReLU takes 1 input\(s\), got 2"),
        (lambda x: Concat()(), ConfigurationError, "one or more"),
        (lambda x: ReLU()(np.zeros((1, 1, 8, 8))), ConfigurationError, "called with ndarray"),
        (lambda x: x + 1, ConfigurationError, "both must be values"),
        (lambda x: Model(x, x), ConfigurationError, "computes nothing"),
        (lambda x: Model(x, ReLU()), ConfigurationError, "output 'output' must be a value"),
        (lambda x: Model(ReLU()(x), x), ConfigurationError, "is the output of a layer"),
        (lambda x: Model(Input((1, 8, 8)), ReLU()(x)), ConfigurationError, "not an input"),
        (lambda x: Model(x, Concat()(*_two(x))), ConfigurationError, "two layers are called 'a'"),
        (lambda x: ReLU()(x, name="a.b"), ConfigurationError, "without dots"),
        (lambda x: Model(ReLU()), ConfigurationError, r"Model\(x, y\)"),
        (lambda x: Sequential(Concat(), input_shape=(1, 8, 8)), ConfigurationError, "in a chain"),
        (lambda x: Input((0, 8)), ConfigurationError, "positive integers"),
    ],
)
def test_what_is_wrong_is_said_at_once(make: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make(Input((1, 8, 8)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": {}}, "inputs must be a table"),
        ({"calls": []}, "calls must be a list"),
        ({"calls": [["conv"]]}, r"calls\[0\]: expected a layer and its inputs"),
        ({"calls": [["conv", "other"]]}, "no earlier entry gives 'other'"),
        ({"outputs": {"y": "other"}}, "output 'y': no entry gives 'other'"),
        ({"outputs": []}, "outputs must be a table"),
    ],
)
def test_definitions_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    x = Input((1, 8, 8))
    definition = to_definition(Model(x, Conv2d(1, 2, 3)(x, name="conv")))
    with pytest.raises(ConfigurationError, match=message):
        from_definition(definition | changes)


def test_a_name_of_an_input_that_files_cannot_hold() -> None:
    assert Input((3,), name="input.1").shape == (3,)
    with pytest.raises(ConfigurationError, match="is not Unicode"):
        Input((3,), name="a\udcff")
