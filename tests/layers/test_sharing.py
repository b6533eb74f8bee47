"""One layer, model or array used several times: gradients are summed, arrays are shared."""

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends import BACKENDS
from fastcnn.data.dataset import ArrayDataset
from fastcnn.errors import CheckpointError, ConfigurationError
from fastcnn.execution import loss_and_gradients, make_executor
from fastcnn.layers import (
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    GraphBuilder,
    Identity,
    Linear,
    Model,
    ReLU,
    Residual,
    Sequential,
    Tanh,
    init,
)
from fastcnn.layers.definition import from_definition
from fastcnn.layers.description import to_definition
from fastcnn.optim import SGD, Adam

torch = pytest.importorskip("torch")


class Twice(Model):
    """Connects one child twice, under one name."""

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        first = self.layers["lin"].connect(builder, f"{name}.lin", source)
        bent = self.layers["act"].connect(builder, f"{name}.act", first)
        return self.layers["lin"].connect(builder, f"{name}.lin", bent)


def linear_at_three_places() -> tuple[Sequential, Any]:
    lin, other = Linear(6, 6, seed=1), torch.nn.Linear(6, 6)
    ours = Sequential(lin, Tanh(), lin, Tanh(), lin, Linear(6, 3, seed=2), input_shape=(6,))
    theirs = torch.nn.Sequential(
        other, torch.nn.Tanh(), other, torch.nn.Tanh(), other, torch.nn.Linear(6, 3)
    )
    return ours, theirs


def convolution() -> tuple[Sequential, Any]:
    """Wide enough for Winograd, once with a fused ReLU and once without."""
    conv, theirs = Conv2d(16, 16, 3, padding=1, seed=1), torch.nn.Conv2d(16, 16, 3, padding=1)
    first = Conv2d(1, 16, 3, padding=1, seed=2)
    relu = torch.nn.ReLU()
    ours = Sequential(
        first, conv, ReLU(), conv, Tanh(), conv, Flatten(), Linear(16 * 64, 3, seed=3),
        input_shape=(1, 8, 8),
    )  # fmt: skip
    return ours, torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1), theirs, relu, theirs, torch.nn.Tanh(), theirs,
        torch.nn.Flatten(), torch.nn.Linear(16 * 64, 3),
    )  # fmt: skip


def rows_of_winograd() -> tuple[Sequential, Any]:
    """A 5x5 convolution, and a transposed one, each used twice."""
    conv, up = Conv2d(4, 4, 5, padding=2, seed=1), ConvTranspose2d(4, 4, 3, padding=1, seed=2)
    conv_t = torch.nn.Conv2d(4, 4, 5, padding=2)
    up_t = torch.nn.ConvTranspose2d(4, 4, 3, padding=1)
    ours = Sequential(
        Conv2d(1, 4, 1, seed=0), conv, up, Tanh(), up, conv, Flatten(), Linear(4 * 64, 3, seed=3),
        input_shape=(1, 8, 8),
    )  # fmt: skip
    return ours, torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 1), conv_t, up_t, torch.nn.Tanh(), up_t, conv_t, torch.nn.Flatten(),
        torch.nn.Linear(4 * 64, 3),
    )  # fmt: skip


def normalised_model() -> tuple[Sequential, Any]:
    """A shared sub-model with a normalisation: each use updates its statistics, in order."""
    block = Sequential(Conv2d(3, 3, 1, seed=1), BatchNorm2d(3, momentum=0.3), Tanh())
    block_t = torch.nn.Sequential(
        torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3, momentum=0.3), torch.nn.Tanh()
    )
    ours = Sequential(
        Conv2d(1, 3, 3, seed=0), block, block, Flatten(), Linear(3 * 36, 3, seed=2),
        input_shape=(1, 8, 8),
    )  # fmt: skip
    return ours, torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), block_t, block_t, torch.nn.Flatten(), torch.nn.Linear(3 * 36, 3)
    )


def tied_weights() -> tuple[Sequential, Any]:
    """Two layers with a common weight and separate biases."""
    ours = Sequential(
        Linear(6, 6, seed=1), Tanh(), Linear(6, 6, seed=2), Linear(6, 3, seed=3), input_shape=(6,)
    )
    ours["2"].weight = ours["0"].weight  # type: ignore[attr-defined]
    theirs = torch.nn.Sequential(
        torch.nn.Linear(6, 6), torch.nn.Tanh(), torch.nn.Linear(6, 6), torch.nn.Linear(6, 3)
    )
    theirs[2].weight = theirs[0].weight
    return ours, theirs


NETWORKS: dict[str, Callable[[], tuple[Sequential, Any]]] = {
    "linear": linear_at_three_places,
    "convolution": convolution,
    "transposed": rows_of_winograd,
    "normalised": normalised_model,
    "tied": tied_weights,
}
COUNT = 40


def samples(model: Sequential, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((COUNT, *model.input_shape)).astype(np.float32)
    return x, generator.integers(0, 3, COUNT)


@pytest.mark.parametrize(
    ("backend", "threads"),
    [("reference", 1), ("im2col", 1), ("lanes", 1), ("lanes", 2), ("lanes", 3)],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_pytorchs(name: str, backend: str, threads: int) -> None:
    model, module = NETWORKS[name]()
    module.load_state_dict(
        {k: torch.from_numpy(np.array(v)) for k, v in model.state_dict().items()}
    )
    names = [key for key, _ in module.named_parameters()]
    assert list(model.named_parameters()) == names
    count = 4 if backend == "reference" else COUNT
    x, y = (array[:count] for array in samples(model))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(
            module(torch.from_numpy(x)), torch.from_numpy(y)
        ).backward()
        optimizer.step()
    executor = make_executor(
        model, loss=fastcnn.CrossEntropyLoss(), backend=backend, batch_size=count, threads=threads,
        optimizer=SGD(momentum=0.9, weight_decay=0.01),
    )  # fmt: skip
    executor.train_steps(ArrayDataset(x, y), np.tile(np.arange(count), 3), np.full(3, 0.1))
    state = module.state_dict()
    assert list(model.state_dict()) == list(state)
    for key, value in model.state_dict().items():
        assert value == pytest.approx(state[key].numpy(), rel=2e-3, abs=2e-4), key
    module.eval()
    wanted = module(torch.from_numpy(x)).detach().numpy()
    assert model.logits(x, backend=backend) == pytest.approx(wanted, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_engine_gradients_are_im2cols_on_any_number_of_threads(name: str) -> None:
    model, _ = NETWORKS[name]()
    x, y = samples(model)
    states = model.copy_state()
    wanted = loss_and_gradients(copy.deepcopy(model).to(np.float64), x, y, backend="im2col")[2]
    gradients = []
    for threads in ("1", "2", "3"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FASTCNN_NUM_THREADS", threads)
            gradients.append(loss_and_gradients(model, x, y)[2])
        model.load_state_dict(states)
    assert gradients[0] == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    assert (gradients[0] == gradients[1]).all()
    assert (gradients[0] == gradients[2]).all()


def test_one_child_connected_twice() -> None:
    def model(backend: str) -> tuple[Sequential, np.ndarray]:
        twice = Twice({"lin": Linear(5, 5, seed=0), "act": Tanh()})
        made = Sequential(twice, Linear(5, 3, seed=1), input_shape=(5,))
        x = np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32)
        return made, loss_and_gradients(made, x, np.arange(9) % 3, backend=backend)[2]

    made, wanted = model("reference")
    assert [node.name for node in made.graph().nodes] == ["0.lin", "0.act", "0.lin#2", "1"]
    assert list(made.state_dict()) == ["0.lin.weight", "0.lin.bias", "1.weight", "1.bias"]
    assert made.num_parameters == 5 * 5 + 5 + 5 * 3 + 3
    for backend in ("im2col", "lanes"):
        assert model(backend)[1] == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    lin, act = torch.nn.Linear(5, 5), torch.nn.Linear(5, 3)
    state = {key: torch.from_numpy(value.copy()) for key, value in made.state_dict().items()}
    lin.load_state_dict({"weight": state["0.lin.weight"], "bias": state["0.lin.bias"]})
    act.load_state_dict({"weight": state["1.weight"], "bias": state["1.bias"]})
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32))
    y = torch.arange(9) % 3
    torch.nn.functional.cross_entropy(act(lin(torch.tanh(lin(x)))), y).backward()
    found = fastcnn.gradients(made, x.numpy(), y.numpy())[1]
    assert found["0.lin.weight"] == pytest.approx(lin.weight.grad.numpy(), abs=1e-5)


def test_dropout_at_two_places_has_two_masks() -> None:
    drop = Dropout(0.5)
    model = Sequential(drop, Residual(drop), input_shape=(64,))
    x = np.ones((4, 64), np.float32)
    outputs = {
        backend: fastcnn.execution.forward(model, x, training=True, seed=1, backend=backend)
        for backend in BACKENDS
    }
    # Dropped once only: with one mask for both uses, the output would be 0 or 2 + 4 alone.
    assert set(np.unique(outputs["reference"])) == {0.0, 2.0, 6.0}
    assert (outputs["im2col"] == outputs["reference"]).all()
    assert (outputs["lanes"] == outputs["reference"]).all()


def test_parameters_count_once() -> None:
    model, _ = linear_at_three_places()
    size = 6 * 6 + 6 + 6 * 3 + 3
    assert model.num_parameters == model.parameter_vector.size == size
    text = model.summary()
    assert text.splitlines()[-1].split()[1] == str(size)
    assert text.count("shared with 0") == 2
    # Two products of 6 x 6 for each of three uses, and so on: work is counted for every use.
    assert model.flops((6,)) == 3 * (72 + 6) + 2 * 6 + 36 + 3


def test_state_has_every_name_and_loads_from_any() -> None:
    model, _ = normalised_model()
    state = model.copy_state()
    assert [key for key in state if key.endswith("running_mean")] == [
        "1.1.running_mean", "2.1.running_mean",
    ]  # fmt: skip
    live = model.state_dict()
    assert live["1.0.weight"] is live["2.0.weight"]
    changed = {key: value + 1 for key, value in state.items()}
    for left_out in ("1.", "2."):
        model.load_state_dict(state)
        model.load_state_dict({k: v for k, v in changed.items() if not k.startswith(left_out)})
        assert (model.state_dict()["1.0.weight"] == changed["1.0.weight"]).all()
    without = {key: state[key] for key in state if key not in ("1.0.bias", "2.0.bias")}
    with pytest.raises(CheckpointError, match=r"missing \['1.0.bias'\]"):
        model.load_state_dict(without)
    changed["1.1.running_mean"] = state["1.1.running_mean"]
    before = model.copy_state()
    with pytest.raises(CheckpointError, match=r"1.1.running_mean and 2.1.running_mean are one"):
        model.load_state_dict(changed)
    assert all((before[key] == value).all() for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m)),
     lambda m: m.to(np.float64).to(np.float32)],
)  # fmt: skip
@pytest.mark.parametrize("name", NETWORKS)
def test_copies_and_conversions_keep_sharing(name: str, copied: Callable[[Any], Any]) -> None:
    model, _ = NETWORKS[name]()
    x, y = samples(model)
    state, wanted = model.copy_state(), loss_and_gradients(model, x, y, backend="im2col")[2]
    model.load_state_dict(state)
    other = copied(model)
    assert other.num_parameters == model.num_parameters
    assert loss_and_gradients(other, x, y, backend="im2col")[2] == pytest.approx(wanted, abs=1e-5)


def test_drawing_weights_draws_a_shared_one_once() -> None:
    first, second = (
        Sequential(lin, ReLU(), lin, Linear(4, 4)) for lin in (Linear(4, 4), Linear(4, 4))
    )
    single = Sequential(Linear(4, 4), ReLU(), Linear(4, 4))
    for model in (first, second, single):
        model.initialize(init.Normal(1.0), seed=3)
    assert (first.state_dict()["2.weight"] == second.state_dict()["0.weight"]).all()
    assert (first.state_dict()["3.weight"] == single.state_dict()["2.weight"]).all()


def test_a_layer_that_is_not_the_models_own_is_refused() -> None:
    hidden = Linear(5, 5, seed=0)

    class Hidden(Model):
        def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
            return hidden.connect(
                builder, "hidden", self.layers["lin"].connect(builder, "lin", source)
            )

    with pytest.raises(ConfigurationError, match=r"'hidden'.*not one of the model's layers"):
        Hidden({"lin": Linear(5, 5, seed=0)}, input_shape=(5,))


def test_arrays_that_overlap_without_being_one_are_refused() -> None:
    model = Sequential(Linear(4, 4, seed=0), Linear(4, 4, seed=1), input_shape=(4,))
    model["1"].weight = model["0"].weight.T  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match=r"0.weight and 1.weight share memory"):
        model.logits(np.zeros((1, 4)))
    # Interleaved parts of one array do not overlap.
    whole = np.arange(32, dtype=np.float32).reshape(4, 8)
    model["0"].weight, model["1"].weight = whole[:, ::2], whole[:, 1::2]  # type: ignore[attr-defined]
    assert (model.state_dict()["1.weight"] == whole[:, 1::2]).all()


def test_exchanged_arrays_are_exchanged() -> None:
    model = Sequential(Linear(4, 4, seed=0), Linear(4, 4, seed=1), input_shape=(4,))
    first, second = (model.copy_state()[key] for key in ("0.weight", "1.weight"))
    a: Any = model["0"]
    b: Any = model["1"]
    a.weight, b.weight = b.weight, a.weight
    assert (model.state_dict()["0.weight"] == second).all()
    assert (model.state_dict()["1.weight"] == first).all()


def test_folding_leaves_what_is_shared() -> None:
    model, _ = normalised_model()
    x, y = samples(model)
    fastcnn.fit(model, (x, y), epochs=1, diagnose=False)
    folded = model.fold_batch_norm()
    assert not any(isinstance(layer, Identity) for _, layer in folded.named_leaves())
    assert folded.logits(x) == pytest.approx(model.logits(x), abs=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_definitions_and_saved_models_keep_sharing(name: str, tmp_path: Path) -> None:
    model, _ = NETWORKS[name]()
    model["0"].requires_grad = False
    for layer, _ in (user for users in model.parameter_users() for user in users):
        layer.requires_grad = model["0"].requires_grad
    x, y = samples(model)
    definition = json.loads(json.dumps(to_definition(model)))
    assert to_definition(from_definition(definition)) == definition
    model.save(tmp_path / "model.safetensors")
    back = fastcnn.load(tmp_path / "model.safetensors")
    assert repr(back) == repr(model)
    assert back.num_parameters == model.num_parameters
    assert list(back.state_dict()) == list(model.state_dict())
    assert (back.logits(x) == model.logits(x)).all()
    assert back.trainable_ranges() == model.trainable_ranges()
    model.requires_grad = back.requires_grad = True
    assert (loss_and_gradients(back, x, y)[2] == loss_and_gradients(model, x, y)[2]).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_has_one_initialiser(name: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from fastcnn.interop import export_onnx, import_onnx

    model, _ = NETWORKS[name]()
    x, _ = samples(model)
    model.logits(x)
    export_onnx(model, tmp_path / "model.onnx")
    written = [value.name for value in onnx.load(tmp_path / "model.onnx").graph.initializer]
    assert len(written) == len(set(written))
    assert {key for key in written if key.endswith((".weight", ".bias"))} == {
        *model.named_parameters()
    }
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x})[0]
    assert found == pytest.approx(model.logits(x), rel=1e-3, abs=1e-3)
    back = import_onnx(tmp_path / "model.onnx")
    assert back.logits(x) == pytest.approx(model.logits(x), rel=1e-3, abs=1e-3)


def test_average_checkpoint_and_resume_with_shared_layers(tmp_path: Path) -> None:
    model, _ = normalised_model()
    x, y = samples(model)
    whole, _ = normalised_model()
    options: dict[str, Any] = {"optimizer": Adam(), "batch_size": 16, "diagnose": False}
    fastcnn.fit(whole, (x, y), epochs=3, **options)
    fastcnn.fit(model, (x, y), epochs=3, out=tmp_path / "run", **options)
    assert (model.parameter_vector == whole.parameter_vector).all()
    best = fastcnn.load(tmp_path / "run" / "model.safetensors")
    assert (best.parameter_vector == model.parameter_vector).all()
    rebuilt = from_definition(
        json.loads((tmp_path / "run" / "config.json").read_text())["model"]["definition"]
    )
    assert rebuilt.num_parameters == model.num_parameters


def test_a_slope_that_two_places_share_has_the_sum_of_their_gradients() -> None:
    slope = fastcnn.PReLU()
    model = Sequential(
        Linear(6, 6, seed=0), slope, Linear(6, 6, seed=1), slope, Linear(6, 3, seed=2),
        input_shape=(6,),
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    found = [fastcnn.gradients(model, x, np.arange(20) % 3, backend=name)[1] for name in BACKENDS]
    for other in found[1:]:
        assert other["1.weight"] == pytest.approx(found[0]["1.weight"], rel=1e-4)
