"""Loading weights that fit a part of a network, replacing heads, and training the rest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import data
from fastcnn.errors import CheckpointError, ConfigurationError
from fastcnn.interop import export_onnx, import_onnx, load_state
from fastcnn.layers import (
    BatchNorm2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    Model,
    ReLU,
    Sequential,
    Softmax,
)
from fastcnn.training.recipe import Recipe
from fastcnn.transfer import replace_head
from tests.command import fastcnn as command


def network(classes: int = 3, seed: int = 0, norm: bool = True) -> Sequential:
    return Sequential(
        {
            "conv": Conv2d(1, 4, 3, stride=2, seed=seed),
            "norm": BatchNorm2d(4) if norm else ReLU(),
            "relu": ReLU(),
            "flat": Flatten(),
            "fc": Linear(4 * 13 * 13, classes, seed=seed + 1),
        },
        input_shape=(1, 28, 28),
    )


def test_what_fits_is_loaded_and_the_rest_is_reported() -> None:
    model, state = network(5, seed=7), network().copy_state()
    state["conv.weight"] += 1.0
    del state["norm.bias"]
    state["other.bias"] = np.zeros(3)
    own = model.copy_state()
    report = model.load_state_dict(state, strict=False)
    assert set(report.loaded) == {
        "conv.weight", "conv.bias", "norm.weight",
        "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
    }  # fmt: skip
    assert report.missing == ("norm.bias",)
    assert report.unexpected == ("other.bias",)
    assert report.mismatched == {
        "fc.weight": ((5, 676), (3, 676)),
        "fc.bias": ((5,), (3,)),
    }
    assert not report.fits
    assert "of another shape: 2 (fc.weight (5, 676), not (3, 676)" in str(report)
    assert (model["conv"].weight == state["conv.weight"]).all()  # type: ignore[attr-defined]
    assert (model["fc"].weight == own["fc.weight"]).all()  # type: ignore[attr-defined]


def test_the_counter_of_batch_normalisation_may_be_missing() -> None:
    """As in PyTorch: the model keeps its own."""
    model = fastcnn.Sequential(fastcnn.Conv2d(1, 2, 1), fastcnn.BatchNorm2d(2))
    state = {key: value + 1 for key, value in model.state_dict().items()}
    model.state_dict()["1.num_batches_tracked"][...] = 7
    del state["1.num_batches_tracked"]
    report = model.load_state_dict(state)
    assert report.fits
    assert "1.num_batches_tracked" not in report.loaded
    assert model.state_dict()["1.num_batches_tracked"] == 7
    np.testing.assert_array_equal(model.state_dict()["1.running_mean"], [1, 1])
    del state["1.running_mean"]
    with pytest.raises(fastcnn.errors.CheckpointError, match=r"missing \['1.running_mean'\]"):
        model.load_state_dict(state)


def test_skipped_keys_are_neither_missing_nor_unexpected() -> None:
    model, state = network(5), network(seed=4).copy_state()
    state["aux.weight"] = np.zeros(2)
    report = model.load_state_dict(state, skip=["fc.*", "aux.*"])
    assert report.fits
    assert report.skipped == ("fc.weight", "fc.bias", "aux.weight")
    assert (model["conv"].weight == state["conv.weight"]).all()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("state", "arguments", "error", "message"),
    [
        ({"x": np.zeros(1)}, {"strict": False}, CheckpointError, "nothing in the state fits"),
        ({}, {"strict": False}, CheckpointError, "nothing in the state fits"),
        (None, {"skip": ["head.*"]}, ConfigurationError, "no key .* matches 'head.*'"),
        (None, {"skip": "fc.*"}, ConfigurationError, "skip must be a list"),
        (None, {"skip": ["*"]}, CheckpointError, "nothing in the state fits"),
    ],
)
def test_refusals(state: Any, arguments: Any, error: type, message: str) -> None:
    model = network()
    before = model.copy_state()
    with pytest.raises(error, match=message):
        model.load_state_dict(network(seed=9).copy_state() if state is None else state, **arguments)
    assert all((model.state_dict()[key] == value).all() for key, value in before.items())


def test_an_array_of_two_layers_is_skipped_by_either_name() -> None:
    def shared() -> Sequential:
        model = Sequential(Linear(4, 4, seed=1), Linear(4, 4), Linear(4, 2, seed=2))
        model["1"].parameters["weight"] = model["0"].parameters["weight"]
        return model

    state = shared().copy_state()
    report = shared().load_state_dict(state, skip=["1.weight"])
    assert report.skipped == ("1.weight",)
    assert "0.weight" not in report.loaded + report.missing


def test_a_file_is_loaded_in_part(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    network(seed=3).save(path)
    model = network(5)
    before = model.preprocessing
    with pytest.raises(CheckpointError, match=r"fc\.weight: the model has shape"):
        load_state(model, path)
    assert model.preprocessing == before
    assert load_state(model, path, skip=["fc.*"]).fits
    assert (model["conv"].weight == network(seed=3)["conv"].weight).all()  # type: ignore[attr-defined]


def ends_in_linear() -> Model:
    return network()


def ends_in_softmax() -> Model:
    return Sequential({**network().layers, "softmax": Softmax()}, input_shape=(1, 28, 28))


def ends_in_a_mean() -> Model:
    layers = [Conv2d(1, 4, 3), ReLU(), Conv2d(4, 3, 1, bias=False), GlobalAvgPool2d()]
    return Sequential(*layers, Flatten(), input_shape=(1, 8, 8))


def nested() -> Model:
    head = Sequential({"flat": Flatten(), "fc": Linear(676, 3)})
    return Sequential({"trunk": Conv2d(1, 4, 3, stride=2), "head": head}, input_shape=(1, 28, 28))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (ends_in_linear, "fc"),
        (ends_in_softmax, "fc"),
        (ends_in_a_mean, "2"),
        (nested, "head.fc"),
        (fastcnn.models.resnet8, "fc"),
    ],
)
def test_a_head_is_replaced(make: Callable[[], Model], name: str) -> None:
    model = make().to(np.float64)
    model.predicts = "classes"
    before = model.copy_state()
    assert replace_head(model, 7, seed=5) == name
    assert model.graph().output_shape == (7,)
    assert model.dtype == np.float64
    assert model.predicts is None
    after = model.state_dict()
    assert list(after) == list(before)
    kept = [key for key in after if not key.startswith(f"{name}.")]
    assert all((after[key] == before[key]).all() for key in kept)
    x = np.random.default_rng(0).random((2, *model.input_shape))  # type: ignore[misc]
    assert model.logits(x).shape == (2, 7)


@pytest.mark.parametrize(
    ("make", "classes", "message"),
    [
        (lambda: Sequential(ReLU(), input_shape=(3,)), 2, "no layer with weights"),
        (lambda: Sequential(Conv2d(1, 2, 3), BatchNorm2d(2), input_shape=(1, 8, 8)), 2, "'1'"),
        (network, 0, "out_features"),
        (network, 2.5, "num_classes must be an integer"),
        (
            lambda: (lambda fc: Sequential(fc, ReLU(), fc, input_shape=(4,)))(Linear(4, 4)),
            3,
            "shares its weights with 0",
        ),
    ],
)
def test_heads_that_are_not_replaced(make: Callable[[], Model], classes: Any, message: str) -> None:
    model = make()
    before = list(model.named_leaves())
    with pytest.raises(ConfigurationError, match=message):
        replace_head(model, classes)
    assert list(model.named_leaves()) == before


@pytest.mark.parametrize("backend", ["lanes", "im2col"])
def test_an_imported_network_is_fine_tuned(backend: str, tmp_path: Path) -> None:
    """Trained on two digits, exported to ONNX, imported, and its head trained on three others."""
    train, _ = data.digits_dataset(300, 30, classes=(0, 1))
    first = network(2)
    fastcnn.fit(first, train, epochs=2, threads=1)
    export_onnx(first, tmp_path / "net.onnx")
    model = import_onnx(tmp_path / "net.onnx")
    head = replace_head(model, 3, seed=0)
    others, test = data.digits_dataset(600, 100, classes=(2, 3, 4))
    before = model.copy_state()
    for name, layer in model.named_leaves():
        layer.requires_grad = name == head
    history = fastcnn.fit(model, others, test, epochs=6, backend=backend, threads=1)
    after = model.state_dict()
    trunk = [key for key in after if not key.startswith(f"{head}.") and "weight" in key]
    assert trunk
    assert all((after[key] == before[key]).all() for key in trunk)
    assert history.final["test_accuracy"] > 0.75


def test_weights_of_pytorch_without_their_head(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    theirs = torch.nn.Sequential()
    theirs.add_module("conv", torch.nn.Conv2d(1, 4, 3, stride=2))
    theirs.add_module("classifier", torch.nn.Linear(4 * 13 * 13, 10))
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    model = network(3, norm=False)
    report = load_state(model, tmp_path / "theirs.safetensors", {"classifier": "fc"}, strict=False)
    assert report.loaded == ("conv.weight", "conv.bias")
    assert set(report.mismatched) == {"fc.weight", "fc.bias"}
    assert (model["conv"].weight == theirs.conv.weight.detach().numpy()).all()  # type: ignore[attr-defined]


def test_a_run_begins_with_weights_of_another(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    common = ("train", "--data", "digits012", "--epochs", 1, "--no-diagnose", "--threads", 1)
    command(*common, "--out", first)
    weights = first / "model.safetensors"
    printed = command(*common, "--out", second, "--init", weights, "--skip", "fc2.* fc1.bias")
    assert "skipped: 3 (fc1.bias, fc2.weight, fc2.bias)" in printed
    config = json.loads((second / "config.json").read_text())
    assert config["initial_weights"] == {"file": str(weights), "skip": "fc2.* fc1.bias"}
    losses = [
        json.loads((run / "metrics.jsonl").read_text().split("\n")[-2]) for run in (first, second)
    ]
    assert losses[1]["train_loss"] < losses[0]["train_loss"]
    command("train", "--resume", second, "--epochs", 2)


def test_a_file_of_initial_weights_is_used_wherever_a_network_is_made(tmp_path: Path) -> None:
    train, _ = data.digits_dataset(30, 10, classes=(0, 1, 2))
    trained = fastcnn.models.report_cnn(seed=5)
    trained.save(tmp_path / "w.safetensors")
    recipe = Recipe(model="report_cnn", init=str(tmp_path / "w.safetensors"), epochs=0)
    assert (recipe.make_model(train).parameter_vector == trained.parameter_vector).all()
    model, _ = recipe.run(train)
    assert (model.parameter_vector == trained.parameter_vector).all()


def test_frozen_weights_are_not_said_to_rest() -> None:
    train, _ = data.digits_dataset(100, 10, classes=(0, 1, 2))
    settings: dict[str, Any] = {"epochs": 2, "lr": 1e-7, "threads": 1}
    by_layer, by_group = network(), network()
    by_layer["conv"].requires_grad = False
    histories = [
        fastcnn.fit(by_layer, train, **settings),
        fastcnn.fit(by_group, train, groups="conv.*: freeze", **settings),
    ]
    for history in histories:
        (finding,) = [each for each in history.findings if each.kind == "still"]
        assert "fc by" in finding.message
        assert "conv by" not in finding.message
