"""Networks with several outputs: a loss for each, on every backend, and their predictions."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.benchmark.pytorch import make_module
from fastcnn.distributed import World
from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.execution import loss_and_gradients
from fastcnn.execution.step import Step
from fastcnn.interop import export_onnx, import_onnx
from fastcnn.layers import (
    BatchNorm2d,
    Concat,
    Conv1d,
    Conv2d,
    Flatten,
    Input,
    Linear,
    Model,
    ReLU,
    Residual,
    Sequential,
    Tanh,
)
from fastcnn.layers.definition import from_definition
from fastcnn.layers.description import to_definition
from fastcnn.losses import (
    LOSSES,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    FocalLoss,
    HuberLoss,
    JointLoss,
    MSELoss,
    NLLLoss,
)
from fastcnn.training.run import Run
from tests.distributed.thread_world import on_ranks

COUNT = 37
random = np.random.default_rng(0)
X = random.standard_normal((COUNT, 2, 6, 6)).astype(np.float32)
MOVES, VALUES = random.integers(0, 9, COUNT), random.uniform(-1, 1, COUNT)
CHANCES, PIXELS = random.dirichlet(np.ones(9), COUNT), random.integers(0, 3, (COUNT, 6, 6))


def two_heads() -> Model:
    """AlphaZero's: a trunk of residual blocks, a policy and a value."""
    x = Input((2, 6, 6), "board")
    block = Sequential(Conv2d(8, 8, 3, padding=1, seed=1), BatchNorm2d(8), ReLU())
    y = ReLU()(Residual(block)(ReLU()(Conv2d(2, 8, 3, padding=1, seed=0)(x)), name="block"))
    policy = Flatten()(ReLU()(BatchNorm2d(2)(Conv2d(8, 2, 1, seed=2)(y))))
    value = Flatten()(ReLU()(BatchNorm2d(1)(Conv2d(8, 1, 1, seed=3)(y))))
    outputs = {
        "policy": Linear(72, 9, seed=4)(policy, name="moves"),
        "value": Tanh()(Linear(36, 1, seed=5)(value)),
    }
    return Model(x, outputs)


def with_pixels() -> Model:
    """Classes per sample and per pixel, and values that another output reads."""
    x = Input((2, 6, 6))
    y = ReLU()(Conv2d(2, 6, 3, padding=1, seed=0)(x))
    pixels = Conv2d(6, 3, 3, padding=1, seed=1)(y, name="pixels")
    flat = Linear(36 * 3, 4, seed=2)(Flatten()(pixels))
    return Model(x, (Linear(4, 9, seed=4)(flat, name="classes"), pixels, flat))


CASES: dict[str, tuple[Any, tuple[Any, ...], JointLoss]] = {
    "moves": (two_heads, (MOVES, VALUES), JointLoss((CrossEntropyLoss(), MSELoss()), (1.0, 0.5))),
    "chances": (two_heads, (CHANCES, VALUES), JointLoss((CrossEntropyLoss(0.1), HuberLoss()))),
    "sums": (
        two_heads,
        (MOVES, VALUES[:, None]),
        JointLoss((FocalLoss(reduction="sum"), MSELoss()), (0.1, 2.0)),
    ),
    "labels": (
        two_heads,
        (np.eye(9)[MOVES], VALUES > 0),
        JointLoss((BCEWithLogitsLoss(), BCEWithLogitsLoss())),
    ),
    "weights": (
        two_heads,
        (np.where(MOVES > 6, -100, MOVES), VALUES),
        JointLoss(
            (CrossEntropyLoss(0.1, np.linspace(0.2, 2, 9), -100), MSELoss(reduction="sum")),  # type: ignore[arg-type]
            (1.0, 0.1),
        ),
    ),
    "likelihood": (two_heads, (MOVES, VALUES), JointLoss((NLLLoss(), MSELoss()), (0.0, 1.0))),
}


def with_three() -> tuple[Model, tuple[np.ndarray, ...], JointLoss]:
    values = np.random.default_rng(1).standard_normal((COUNT, 4))
    losses = (CrossEntropyLoss(), CrossEntropyLoss(), MSELoss())
    return with_pixels(), (MOVES, PIXELS, values), JointLoss(losses, (1.0, 2.0, 0.25))


def with_ignored() -> tuple[Model, tuple[np.ndarray, ...], JointLoss]:
    values = np.random.default_rng(1).standard_normal((COUNT, 4))
    pixels = np.where(random.random(PIXELS.shape) < 0.3, 255, PIXELS)
    losses = (
        FocalLoss(weight=tuple(np.linspace(0.5, 2, 9)), ignore_index=0),
        CrossEntropyLoss(0.1, (0.5, 1.0, 3.0), 255),
        HuberLoss(),
    )
    return with_pixels(), (MOVES, pixels, values), JointLoss(losses, (1.0, 2.0, 0.25))


IGNORED = with_ignored()[1]


def case(name: str) -> tuple[Model, tuple[Any, ...], JointLoss]:
    if name == "pixels":
        return with_three()
    if name == "ignored":
        model, _, loss = with_ignored()
        return model, IGNORED, loss
    make, targets, loss = CASES[name]
    return make(), targets, loss


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", [*CASES, "pixels", "ignored"])
def test_engine_computes_what_others_do(
    name: str, weighted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model, targets, loss = case(name)
    weight = np.random.default_rng(2).uniform(0.2, 2.0, COUNT) if weighted else None
    found = {
        backend: loss_and_gradients(
            deepcopy(model), X, targets, loss=loss, sample_weight=weight, backend=backend
        )
        for backend in ("reference", "im2col", "lanes")
    }
    assert not [r for r in caplog.records if r.name == "fastcnn.lanes"]  # no fallback
    value, logits, gradient = found.pop("reference")
    for other in found.values():
        assert other[0] == pytest.approx(value, rel=1e-5)
        assert other[1] == pytest.approx(logits, abs=1e-5)
        assert other[2] == pytest.approx(gradient, abs=2e-6 + 1e-5 * float(np.abs(gradient).max()))


@pytest.mark.parametrize("name", ["moves", "chances", "pixels", "weights", "ignored"])
def test_it_is_the_weighted_sum_of_losses(name: str) -> None:
    model, targets, loss = case(name)
    outputs = model.logits(X)
    parts = [
        weight * one(outputs[key], target)
        for one, weight, key, target in zip(
            loss.losses, loss.weights, outputs, targets, strict=True
        )
    ]
    value, _ = fastcnn.gradients(model, X, targets, loss=loss)
    assert value == pytest.approx(sum(parts), rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_reported_losses_are_means_over_samples(reduction: str) -> None:
    """Without a step, an epoch's loss is that of its data, for any batch size."""
    model = with_pixels()
    loss = [kind(reduction=reduction) for kind in (CrossEntropyLoss, CrossEntropyLoss, MSELoss)]
    targets = (MOVES, PIXELS, np.linspace(-1.0, 1.0, 4 * COUNT).reshape(COUNT, 4))
    data = (X, targets)
    history = fastcnn.fit(model, data, data, loss=loss, epochs=1, lr=0.0, batch_size=8)
    each = zip(loss, model.logits(X).values(), targets, strict=True)
    expected = sum(one(*both) for one, *both in each) / (COUNT if reduction == "sum" else 1)
    assert history.final["test_loss"] == pytest.approx(expected, rel=1e-5)
    assert history.final["train_loss"] == pytest.approx(expected, rel=1e-5)


def test_gradients_are_differences_in_float64() -> None:
    model, targets, loss = case("moves")
    model.to(np.float64)
    x = X.astype(np.float64)
    value, _, gradient = loss_and_gradients(
        model, x, targets, loss=loss, backend="im2col", step=Step()
    )
    direction = np.random.default_rng(3).standard_normal(gradient.size)
    start, step, values = model.parameter_vector.copy(), 1e-6, []
    for sign in (1, -1):
        model.parameter_vector[...] = start + sign * step * direction
        values.append(
            loss_and_gradients(model, x, targets, loss=loss, backend="im2col", step=Step())[0]
        )
    assert np.isfinite(value)
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(gradient @ direction, rel=1e-6)


@pytest.mark.torch
def test_gradients_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    model, targets, loss = case("moves")
    state = {key: value.copy() for key, value in model.state_dict().items()}
    module = make_module(model.graph(), state, set(model.named_parameters())).double()
    output = module(torch.from_numpy(X.astype(np.float64)))
    policy, value = output[:, :9], output[:, 9]
    total = torch.nn.functional.cross_entropy(policy, torch.from_numpy(MOVES))
    total = total + 0.5 * torch.nn.functional.mse_loss(value, torch.from_numpy(VALUES))
    total.backward()
    found, gradients = fastcnn.gradients(model, X, targets, loss=loss, training=True)
    assert found == pytest.approx(float(total.detach()), rel=1e-6)
    for key, gradient in gradients.items():
        expected = getattr(module, module.names[key]).grad.numpy()
        assert gradient == pytest.approx(expected, abs=2e-6), key


def test_training_evaluation_and_prediction(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "loss": {"value": "mse", "policy": "cross_entropy"}, "batch_size": 8, "optimizer": "adam",
        "loss_weights": {"policy": 1.0, "value": 0.5}, "lr": 0.02, "threads": 1,
    }  # fmt: skip

    def run(epochs: int, out: str, resume: bool = False) -> tuple[Model, Any]:
        model = two_heads()
        history = fastcnn.fit(
            model, (X, (MOVES, VALUES)), (X, {"value": VALUES, "policy": MOVES}),
            epochs=epochs, out=tmp_path / out, resume=resume, **options,
        )  # fmt: skip
        return model, history

    model, history = run(20, "whole")
    assert history.final["train_loss"] < 0.5 * history.epochs[0]["train_loss"]
    assert history.final["train_accuracy"] > 0.5
    found = fastcnn.evaluate(
        model, (X, (MOVES, VALUES)), loss=options["loss"], loss_weights=options["loss_weights"]
    )
    parts = found.outputs  # type: ignore[attr-defined]
    assert found.loss == pytest.approx(history.final["test_loss"], rel=1e-6)
    assert found.loss == pytest.approx(parts["policy"].loss + 0.5 * parts["value"].loss)
    assert found.accuracy == parts["policy"].accuracy == history.final["test_accuracy"]
    assert np.isnan(parts["value"].accuracy)
    outputs, answers = model(X), model.predict(X)
    assert (answers["policy"] == outputs["policy"].argmax(axis=1)).all()
    assert (answers["value"] == outputs["value"][:, 0]).all()
    assert np.mean(answers["policy"] == MOVES) == found.accuracy
    assert set(found.logits) == {"policy", "value"}
    run(10, "parts")
    resumed, _ = run(20, "parts", resume=True)
    assert (resumed.parameter_vector == model.parameter_vector).all()
    opened = Run.open(tmp_path / "whole")
    again = opened.load_model()
    assert again.predicts == "classes,value"
    assert (again.predict(X)["policy"] == answers["policy"]).all()
    assert isinstance(opened.loss, JointLoss)
    assert opened.loss.bound(model.graph().outputs).weights == (1.0, 0.5)


def test_analysis_takes_several_outputs() -> None:
    model, targets, loss = case("moves")
    assert fastcnn.gradcheck(model=model).ok
    few = tuple(target[:8] for target in targets)
    found = fastcnn.compare_backends(model, X[:8], few, loss=loss)
    assert max(row.absolute for row in found.rows) < 1e-5


def test_sessions_name_outputs() -> None:
    model, _, _ = case("pixels")
    expected, found = model.logits(X[:5]), fastcnn.session(model, max_batch=4).logits(X[:5])
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-5)


def test_threads_change_no_bit() -> None:
    vectors = []
    for threads in (1, 2, 3):
        model, targets, loss = case("pixels")
        fastcnn.fit(
            model, (X, targets), loss=loss, epochs=2, batch_size=16, threads=threads, lr=0.01
        )
        vectors.append(model.parameter_vector.copy())
    assert (vectors[0] == vectors[1]).all()
    assert (vectors[0] == vectors[2]).all()


@pytest.mark.parametrize("name", ["moves", "pixels"])
def test_files(name: str, tmp_path: Path) -> None:
    model, _, _ = case(name)
    expected = model.logits(X)
    definition = json.loads(json.dumps(to_definition(model)))
    assert repr(from_definition(definition)) == repr(model)
    assert "outputs: " in repr(model)
    model.predicts = ",".join(["classes"] * len(expected))
    model.save(tmp_path / "m.safetensors")
    for other in (fastcnn.load(tmp_path / "m.safetensors"), deepcopy(model)):
        found = other.logits(X)
        assert list(found) == list(expected)
        assert all((found[key] == expected[key]).all() for key in expected)
        assert other.predicts == model.predicts
    onnxruntime = pytest.importorskip("onnxruntime")
    export_onnx(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    assert names == list(expected)
    made = dict(zip(names, session.run(names, {session.get_inputs()[0].name: X}), strict=True))
    back = import_onnx(tmp_path / "m.onnx").logits(X)
    for key, value in expected.items():
        assert made[key] == pytest.approx(value, abs=1e-5)
        assert back[key] == pytest.approx(value, abs=1e-5)
    assert set(expected) <= set(model.draw().svg.replace("<", ">").split(">"))


def test_part_of_a_larger_network() -> None:
    inner, x = two_heads(), Input((2, 6, 6))
    policy, value = inner(x, name="heads")
    model = Model(x, policy * value)
    outputs = inner.logits(X)
    assert model.logits(X) == pytest.approx(outputs["policy"] * outputs["value"], abs=1e-5)
    assert next(iter(model.state_dict())).startswith("heads.")
    y = Input((2, 6, 6))
    with pytest.raises(ConfigurationError, match="has 2 outputs"):
        Sequential(two_heads(), ReLU(), input_shape=(2, 6, 6)).graph()
    only = Model(y, two_heads()(y)[1])
    assert only.logits(X).shape == (COUNT, 1)


@pytest.mark.parametrize(
    ("loss", "y", "error", "message"),
    [
        ("mse", (MOVES, VALUES), ConfigurationError, "outputs policy, value: give a loss for each"),
        (["mse"], (MOVES, VALUES), ConfigurationError, "outputs policy, value: .* not 1"),
        ({"a": "mse", "b": "mse"}, (MOVES, VALUES), ConfigurationError, "not a, b"),
        (["mse", "other"], (MOVES, VALUES), ConfigurationError, "loss must be one of"),
        (["mse", lambda output, y: (0.0, y)], (MOVES, VALUES), ConfigurationError, "Python loss"),
        (["cross_entropy", "mse"], MOVES, ShapeError, "train: .* tuple of as many arrays of tar"),
        (["cross_entropy", "mse"], (MOVES,), ShapeError, "tuple of as many"),
        (["cross_entropy", "mse"], {"policy": MOVES}, ShapeError, "given for policy, value"),
        (["cross_entropy", "mse"], (MOVES + 5, VALUES), DataError, "output 'policy': classes must"),
        (["cross_entropy", "mse"], (MOVES, VALUES[:3]), ShapeError, "output 'value': targets have"),
        (["mse", "cross_entropy"], (MOVES, MOVES), ShapeError, "'value': .* one class"),
        (["cross_entropy", "mse"], (MOVES, VALUES * np.nan), DataError, "NaN or infinity"),
    ],
)
def test_what_does_not_fit_is_named(loss: Any, y: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        fastcnn.fit(two_heads(), (X, y), loss=loss, epochs=1)


@pytest.mark.parametrize("weights", [[1.0], [-1.0, 1.0], [0.0, 0.0], {"policy": 1.0}, 2.0])
def test_weights_that_make_no_sense(weights: Any) -> None:
    with pytest.raises(ConfigurationError, match="loss_weights"):
        fastcnn.fit(
            two_heads(), (X, (MOVES, VALUES)), loss=["cross_entropy", "mse"], loss_weights=weights
        )
    single = Sequential(Flatten(), Linear(72, 9, seed=0), input_shape=(2, 6, 6))
    with pytest.raises(ConfigurationError, match="no effect with one loss"):
        fastcnn.fit(single, (X, MOVES), loss_weights=[1.0])
    with pytest.raises(ConfigurationError, match="outputs output"):
        fastcnn.fit(single, (X, MOVES), loss=["mse", "mse"])


@pytest.mark.torch
@pytest.mark.parametrize("backend", ["reference", "im2col", "lanes"])
def test_weights_of_classes_are_pytorchs(backend: str) -> None:
    """Each loss is divided by the weights of its own targets."""
    torch = pytest.importorskip("torch")
    model, (moves, pixels, values), loss = case("ignored")
    loss = JointLoss(
        (CrossEntropyLoss(0.1, (0.5,) * 4 + (2.0,) * 5, 3), *loss.losses[1:]), (1, 2, 3)
    )
    outputs = {
        key: torch.tensor(value, requires_grad=True) for key, value in model.logits(X).items()
    }
    first, second, third = outputs.values()
    entropy = torch.nn.functional.cross_entropy
    weights = torch.tensor([0.5] * 4 + [2.0] * 5)
    total = entropy(first, torch.tensor(moves), weights, ignore_index=3, label_smoothing=0.1)
    total = total + 2 * entropy(
        second,
        torch.tensor(pixels),
        torch.tensor([0.5, 1.0, 3.0]),
        ignore_index=255,
        label_smoothing=0.1,
    )
    total = total + 3 * torch.nn.functional.huber_loss(third, torch.tensor(values).float())
    total.backward()
    found, gradients = fastcnn.gradients(
        model, X, (moves, pixels, values), loss=loss, backend=backend
    )
    assert found == pytest.approx(float(total.detach()), rel=1e-5)
    bias = gradients["classes.bias"]
    assert bias == pytest.approx(first.grad.sum(dim=0).numpy(), abs=1e-5)


@pytest.mark.parametrize("backend", ["im2col", "lanes"])
@pytest.mark.parametrize("name", ["weights", "ignored"])
def test_small_batches_add_up_to_one(name: str, backend: str) -> None:
    """Sums and means of several losses, each by its own targets, also in a short last group."""
    found = []
    for accumulate in (1, 3):
        model, targets, loss = case(name)
        history = fastcnn.fit(
            model,
            (X, targets),
            loss=loss,
            batch_size=24 // accumulate,
            accumulate=accumulate,
            lr=0.05,
            epochs=2,
            backend=backend,
            diagnose=False,
            groups="*: freeze_statistics" if name == "weights" else None,
        )
        found.append((model.parameter_vector.copy(), history.final))
    assert found[1][0] == pytest.approx(found[0][0], abs=2e-6)
    for key in ("train_loss", "train_accuracy"):
        assert found[1][1][key] == pytest.approx(found[0][1][key], rel=1e-5)


def test_accuracy_is_of_pixels_that_count() -> None:
    model, (_, pixels, values), _ = case("ignored")
    loss = JointLoss((MSELoss(), CrossEntropyLoss(ignore_index=255), MSELoss()))
    targets = (np.eye(9)[MOVES], pixels, values)
    history = fastcnn.fit(model, (X, targets), loss=loss, lr=0.0, epochs=1, diagnose=False)
    found = fastcnn.evaluate(model, (X, targets), loss=loss)
    assert history.final["train_accuracy"] == pytest.approx(found.accuracy, rel=1e-6)
    nothing = (np.eye(9)[MOVES], np.full_like(pixels, 255), values)
    with pytest.raises(DataError, match="ignored"):
        fastcnn.fit(model, (X, nothing), loss=loss, epochs=1)


def test_it_is_not_a_loss_by_name() -> None:
    assert "joint" not in LOSSES


@pytest.mark.parametrize(("ranks", "accumulate"), [(2, 1), (3, 1), (2, 2)])
def test_several_processes_train_as_one(ranks: int, accumulate: int) -> None:
    def work(world: World) -> np.ndarray:
        left, right = Input((2, 6, 6), "left"), Input((4,), "right")
        y = Concat()(Flatten()(ReLU()(Conv2d(2, 3, 3, seed=0)(left))), right)
        outputs = {"move": Linear(52, 9, seed=1)(y), "value": Linear(52, 1, seed=2)(y)}
        model = Model((left, right), outputs)
        entropy = CrossEntropyLoss(weight=tuple(np.linspace(0.2, 2, 9)), ignore_index=4)
        fastcnn.fit(
            model, ((X, X[:, 0, 0, :4]), (MOVES, VALUES)), ((X, X[:, 0, 0, :4]), (MOVES, VALUES)),
            loss=[entropy, "mse"], loss_weights=[1.0, 0.3], epochs=2, batch_size=32 // accumulate,
            accumulate=accumulate,
            threads=1, world=world, optimizer="adam",
        )  # fmt: skip
        return model.parameter_vector.copy()

    alone = work(World())
    for vector in on_ranks(ranks, work):
        assert vector == pytest.approx(alone, abs=1e-5)


def test_losses_of_sequences() -> None:
    """A class for each position of one output, and values of another."""
    x = Input((3, 17))
    trunk = ReLU()(Conv1d(3, 8, 3, padding=1, seed=0)(x))
    model = Model(
        x,
        {
            "classes": Conv1d(8, 4, 1, seed=1)(trunk),
            "values": Conv1d(8, 2, 3, stride=2, seed=2)(trunk),
        },
    )
    generator = np.random.default_rng(0)
    images = generator.standard_normal((21, 3, 17)).astype(np.float32)
    targets = {
        "classes": generator.integers(0, 4, (21, 17)),
        "values": generator.standard_normal((21, 2, 8)).astype(np.float32),
    }
    loss = JointLoss((CrossEntropyLoss(), MSELoss()), (1.0, 0.5), ("classes", "values"))
    ours, theirs = (
        fastcnn.gradients(model, images, targets, loss=loss, backend=name)
        for name in ("lanes", "im2col")
    )
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
    for key, value in theirs[1].items():
        assert ours[1][key] == pytest.approx(value, abs=1e-5 * float(np.abs(value).max())), key
