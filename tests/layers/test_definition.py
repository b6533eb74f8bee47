"""Models as plain data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.errors import CheckpointError, ConfigurationError
from fastcnn.layers import Conv2d, Flatten, Identity, Linear, ReLU, Residual, Sequential, init
from fastcnn.layers.definition import TYPES, from_definition, model_of_file, read_definition
from fastcnn.layers.description import METADATA, to_definition
from fastcnn.training.run import Run
from fastcnn.weights import weights_to_bytes


@pytest.mark.parametrize(
    "name", ["report_cnn", "lenet5", "vgg_small", "resnet8", "resnet20", "squeezenet", "unet"]
)
def test_there_and_back(name: str) -> None:
    model = getattr(fastcnn.models, name)(seed=0)
    definition = json.loads(json.dumps(to_definition(model)))
    back = from_definition(definition, seed=1)
    assert repr(back) == repr(model)
    assert to_definition(back) == definition
    back.load_state_dict(model.state_dict())
    x = np.random.default_rng(0).standard_normal((2, *model.input_shape)).astype(np.float32)
    assert (back.logits(x) == model.logits(x)).all()


def test_every_layer_has_a_definition() -> None:
    chosen: dict[str, dict[str, Any]] = {
        "Conv2d": {"in_channels": 2, "out_channels": 4, "kernel_size": [3, 2], "padding": "same",
                   "groups": 2, "bias": False},
        "ConvTranspose2d": {"in_channels": 2, "out_channels": 4, "kernel_size": 3, "stride": 2,
                            "output_padding": 1},
        "Linear": {"in_features": 3, "out_features": 2}, "MaxPool2d": {"kernel_size": 2},
        "AvgPool2d": {"kernel_size": [2, 1], "count_include_pad": False},
        "AdaptiveAvgPool2d": {"output_size": [2, 3]}, "BatchNorm2d": {"num_features": 3},
        "BatchNorm1d": {"num_features": 3, "affine": False}, "LeakyReLU": {"negative_slope": 0.3},
        "GELU": {"approximate": "tanh"}, "Dropout": {"p": 0.1},
        "Conv1d": {"in_channels": 2, "out_channels": 4, "kernel_size": [3], "stride": 2},
        "ConvTranspose1d": {"in_channels": 2, "out_channels": 4, "kernel_size": 3},
        "MaxPool1d": {"kernel_size": 2, "ceil_mode": True}, "AvgPool1d": {"kernel_size": [3]},
        "AdaptiveAvgPool1d": {"output_size": 2}, "AdaptiveMaxPool1d": {"output_size": [2]},
        "AdaptiveMaxPool2d": {"output_size": [2, 1]}, "ChannelShuffle": {"groups": 2},
        "PixelShuffle": {"upscale_factor": 2}, "PixelUnshuffle": {"downscale_factor": 2},
        "Upsample": {"scale_factor": [2, 3], "mode": "bilinear", "align_corners": True},
        "Unflatten": {"dim": 1, "unflattened_size": [2, -1]},
        "ZeroPad2d": {"padding": [1, 2, -1, 0]},
        **{name: {"padding": 1} for name in (
            "ZeroPad1d", "CircularPad1d", "CircularPad2d", "ReflectionPad1d", "ReflectionPad2d",
            "ReplicationPad1d", "ReplicationPad2d",
        )},
        "LocalResponseNorm": {"size": 3}, "LayerNorm": {"normalized_shape": [3, 4], "bias": False},
        "RMSNorm": {"normalized_shape": 3}, "LayerNorm2d": {"num_channels": 3},
        "GroupNorm": {"num_groups": 2, "num_channels": 4}, "InstanceNorm2d": {"num_features": 3},
        "Scale": {"init": 0.5, "trainable": False}, "Narrow": {"start": 1, "length": 2},
        "Split": {"sizes": [1, 2]}, "Chunk": {"chunks": 2},
    }  # fmt: skip
    for name in TYPES:
        entry = {"type": name, **chosen.get(name, {})}
        model = from_definition({"input_shape": [], "layers": [entry]})
        again = from_definition(to_definition(model))
        assert repr(again) == repr(model)


def test_seeds_decide_the_weights() -> None:
    definition = to_definition(fastcnn.models.lenet5(seed=0))
    vectors = [from_definition(definition, seed).parameter_vector for seed in (0, 0, 1)]
    assert (vectors[0] == vectors[1]).all()
    assert (vectors[0] != vectors[2]).any()


CONV = {"type": "Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 3}


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"input_shape": [1, 8, 8]}, "layers must be a non-empty list"),
        ({"input_shape": "x", "layers": [CONV]}, "input_shape must be a list of integers"),
        ({"input_shape": [1], "layers": [CONV], "more": 1}, "has no more"),
        ({"input_shape": [], "layers": [{"type": "Conv"}]}, r"\[0\]: there is no layer 'Conv'"),
        ({"input_shape": [], "layers": [{}]}, r"layers\[0\]: expected a table with a type"),
        ({"input_shape": [], "layers": [{"type": "Linear"}]}, r"missing a .*: 'in_features'"),
        ({"input_shape": [], "layers": [CONV | {"strides": 2}]}, r"unexpected .* 'strides'"),
        ({"input_shape": [], "layers": [CONV | {"groups": 3}]}, r"layers\[0\]: Conv2d: groups=3"),
        ({"input_shape": [], "layers": [CONV | {"name": "a"}] * 2}, r"layers\[1\]: the name 'a'"),
        ({"input_shape": [3, 8, 8], "layers": [CONV]}, r"layer '0', Conv2d\(1, 2"),
        ({"input_shape": [], "layers": [{"type": "Residual", "main": []}]}, r"layers\[0\]\.main"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(definition: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigurationError, fastcnn.errors.ShapeError), match=message):
        from_definition(definition)


def test_files(tmp_path: Path) -> None:
    text = 'input_shape = [1, 4, 4]\n[[layers]]\ntype = "Flatten"\n'
    (tmp_path / "net.toml").write_text(text)
    (tmp_path / "net.json").write_text(json.dumps(read_definition(tmp_path / "net.toml")))
    assert read_definition(tmp_path / "net.json")["input_shape"] == [1, 4, 4]
    (tmp_path / "epochs.toml").write_text("epochs = 3")
    with pytest.raises(ConfigurationError, match=r"epochs\.toml: a model's definition has no epo"):
        model_of_file(tmp_path / "epochs.toml")
    (tmp_path / "bad.toml").write_text("input_shape = [")
    for name in ("bad.toml", "none.toml"):
        with pytest.raises(ConfigurationError, match=f"{name} cannot be read as a model"):
            read_definition(tmp_path / name)


def test_a_run_rebuilds_a_model_of_ones_own(tmp_path: Path) -> None:
    model = Sequential(
        Residual(Sequential(Conv2d(1, 1, 3, padding=1, weight_init=init.Kaiming(), seed=0))),
        Flatten(), Linear(784, 3, seed=1), input_shape=(1, 28, 28),
    )  # fmt: skip
    train, _ = fastcnn.data.digits_dataset(60, 10, classes=(0, 1, 2))
    fastcnn.fit(model, train, epochs=1, out=tmp_path)
    again = Run.open(tmp_path).load_model()
    assert (again.parameter_vector == model.parameter_vector).all()


def nested() -> Sequential:
    """Nested chains, branches of one layer and of a chain of one, and the identity."""
    return Sequential(
        {
            "body": Sequential(Conv2d(1, 2, 3, padding=1, seed=0), Sequential(ReLU())),
            "one": Residual(Conv2d(2, 2, 1, seed=1), Sequential(Conv2d(2, 2, 1, seed=2))),
            "two": Residual(Sequential(Conv2d(2, 2, 1, seed=3)), Conv2d(2, 2, 1, seed=4)),
            "nothing": Identity(),
            "flat": Flatten(),
            "fc": Linear(32, 3, seed=5),
        },
        input_shape=(1, 4, 4),
    )


def test_keys_of_nested_models_are_kept(tmp_path: Path) -> None:
    model = nested()
    back = from_definition(json.loads(json.dumps(to_definition(model))))
    assert list(back.state_dict()) == list(model.state_dict())
    assert repr(back) == repr(model)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_saved_model_is_the_same_model(dtype: Any, tmp_path: Path) -> None:
    model = nested().to(dtype)
    model.preprocessing = fastcnn.data.Preprocessing(mean=(0.25,), std=(0.5,))
    model.predicts = "values"
    model.save(tmp_path / "a.safetensors")
    back = fastcnn.load(tmp_path / "a.safetensors")
    x = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)
    assert back.dtype == dtype
    assert (back.preprocessing, back.predicts) == (model.preprocessing, model.predicts)
    assert (back.predict(x) == model.predict(x)).all()


class Own(Sequential):
    """Not one of fastcnn's layers."""


def test_what_cannot_be_saved_or_loaded_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Own has no definition"):
        Own(ReLU(), input_shape=(2,)).save(tmp_path / "own.safetensors")
    with pytest.raises(ConfigurationError, match="Own has no definition"):
        Sequential(Own(ReLU()), input_shape=(2,)).save(tmp_path / "own.safetensors")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CheckpointError, match="is missing"):
        fastcnn.load(tmp_path / "none.safetensors")
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(weights_to_bytes({"0.weight": np.zeros((1, 1), np.float32)}))
    with pytest.raises(CheckpointError, match="no definition of the model"):
        fastcnn.load(path)
    for damaged in ("{", "[1]", '{"input_shape": [2], "layers": [{"type": "None"}]}'):
        path.write_bytes(weights_to_bytes({}, {METADATA: damaged}))
        with pytest.raises(CheckpointError, match=r"foreign.safetensors"):
            fastcnn.load(path)


@pytest.mark.parametrize(
    ("layers", "more", "message"),
    [
        ([{"type": "Shared", "layer": "0"}], {}, "path of an earlier layer"),
        ([{"type": "Shared"}], {}, "path of an earlier layer"),
        (
            [{"type": "ReLU"}, {"type": "Shared", "layer": "0", "p": 1}],
            {},
            "path of an earlier layer",
        ),
        ([{"type": "ReLU", "requires_grad": 0}], {}, "requires_grad must be true or false"),
        ([{"type": "Sequential", "layers": [], "more": 1}], {}, "layers, and nothing else"),
        ([{"type": "ReLU"}], {"tied": 3}, "tied must be a list of pairs"),
        ([{"type": "ReLU"}], {"tied": [["0.weight", "1.weight"]]}, "keys of two parameters"),
        ([{"type": "ReLU"}], {"tied": [[1, 2]]}, "keys of two parameters"),
    ],
)
def test_wrong_sharing_is_named(layers: Any, more: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        from_definition({"input_shape": [], "layers": layers, **more})


LINE = {"type": "Linear", "in_features": 4, "out_features": 3}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{**LINE, "out_features": 10**9}], "more than a file of this size can describe"),
        ([{**LINE, "out_features": 10**100}], "out_features must be .* of at most 2,147,483,647"),
        ([{"type": "BatchNorm1d", "num_features": 10**9}], "more than a file of this size"),
        ([{"type": "PReLU", "num_parameters": 10**9}], "more than a file of this size"),
        ([{"type": "Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 10**6}], "more"),
        ([{"type": "ReLU"}] * 2001, "at most 2000 layers"),
        ([{"type": "Dropout", "p": 10**400}], "p must be"),
        ([{"type": "ELU", "alpha": 10**400}], "finite number"),
        ([{**LINE, "dtype": "S8"}], "cannot contain dtype"),
        ([{**LINE, "weight_init": "x", "seed": 3}], "cannot contain seed, weight_init"),
        ([{**LINE, "bias": [[[[1]]]], "other": 1}], "other"),
    ],
)
def test_files_that_ask_for_too_much(layers: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        from_definition({"input_shape": [4], "layers": layers})


def test_layers_that_ask_for_too_much_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastcnn.layers.definition.MOST_VALUES", 30)
    from_definition({"input_shape": [], "layers": [LINE] * 2})
    with pytest.raises(ConfigurationError, match="more than a file of this size can describe"):
        from_definition({"input_shape": [], "layers": [LINE] * 3})


@pytest.mark.parametrize("shape", [[0], [-1], [True], [2.5], "4", None])
def test_shapes_that_no_sample_has(shape: Any) -> None:
    with pytest.raises(ConfigurationError, match="input_shape"):
        from_definition({"input_shape": shape, "layers": [{"type": "ReLU"}]})


def test_branches_without_an_end(tmp_path: Path) -> None:
    text = '{"type": "Residual", "main": [' * 5000
    (tmp_path / "m.json").write_text(f'{{"input_shape": [4], "layers": [{text}')
    with pytest.raises(ConfigurationError, match=r"m\.json"):
        read_definition(tmp_path / "m.json")
    entry: dict[str, Any] = {"type": "ReLU"}
    for _ in range(25):
        entry = {"type": "Residual", "main": [entry]}
    with pytest.raises(ConfigurationError, match="branches 20 deep"):
        from_definition({"input_shape": [4], "layers": [entry]})
