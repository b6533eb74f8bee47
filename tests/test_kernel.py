"""Activations, losses and optimisers that a user wrote: alike in the engine and elsewhere."""

import logging
import math
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import kernel
from fastcnn.analysis.gradcheck import check_layer
from fastcnn.backends import BACKENDS, get_backend
from fastcnn.errors import ConfigurationError, GradientError
from fastcnn.layers import (
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    Scale,
    Sequential,
    SiLU,
    Tanh,
    definition,
    description,
)
from fastcnn.layers.activation import LAYERS
from fastcnn.layers.definition import TYPES
from fastcnn.losses import LOSSES, MSELoss
from fastcnn.operations import OPERATIONS
from fastcnn.operations.own import TABLES
from fastcnn.optim import OPTIMIZERS, SGD, Adam

pytestmark = pytest.mark.usefixtures("own_kernels")


def swish(x: Any, beta: float = 1.0) -> Any:
    return x * kernel.sigmoid(beta * x)


def swish_slope(x: Any, beta: float = 1.0) -> Any:
    s = kernel.sigmoid(beta * x)
    return s + beta * x * s * (1.0 - s)


def huber(prediction: Any, target: Any, delta: float = 1.0) -> Any:
    error = np.abs(prediction - target)
    return np.where(error <= delta, 0.5 * error * error, delta * (error - 0.5 * delta))


def huber_slope(prediction: Any, target: Any, delta: float = 1.0) -> Any:
    return np.maximum(np.minimum(prediction - target, delta), -delta)


def network(activation: Any) -> Sequential:
    return Sequential(
        Conv2d(2, 4, 3, seed=0), activation, Flatten(), Linear(64, 3, seed=1),
        input_shape=(2, 6, 6),
    )  # fmt: skip


def samples(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((count, 2, 6, 6)).astype(np.float32)
    return x, np.arange(count) % 3


def fallbacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.message for entry in caplog.records if "im2col" in entry.message]


@pytest.mark.parametrize(
    ("one", "other"), [("Huber", "Tanh"), ("Own", "Own"), ("Norm", "Pool"), ("Planning", "Session")]
)
def test_an_activation_and_a_loss_of_one_name(one: str, other: str) -> None:
    """Also if the package has a loss or a module of an activation's name, or one of a loss's."""
    activation = kernel.activation(one, swish, swish_slope)
    loss = kernel.loss(other, huber, huber_slope)
    x, y = samples()[0], np.ones((40, 3))
    for backend in BACKENDS:
        found = fastcnn.evaluate(network(activation()), (x, y), loss=loss(), backend=backend)
        expected = fastcnn.evaluate(network(SiLU()), (x, y), loss="huber", backend=backend)
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        assert network(Tanh()).logits(x, backend=backend).shape == y.shape
    kernel.activation(one, swish, swish_slope)  # again


def test_an_activation(caplog: pytest.LogCaptureFixture) -> None:
    kind = kernel.activation("Swish", swish, swish_slope)
    assert repr(kind(1.5)) == "Swish(beta=1.5)"
    for backend in BACKENDS:
        assert all(row.ok for row in check_layer(kind(1.5), (2, 3, 3), backend))
    model, (x, y) = network(kind(beta=1.0)), samples()
    assert any("swish" in name for name in fastcnn.plan(model, 40).names)
    expected = fastcnn.gradients(network(SiLU()), x, y)
    value, gradients = fastcnn.gradients(model, x, y)
    assert value == pytest.approx(expected[0], rel=1e-6)
    for key, gradient in gradients.items():
        assert gradient == pytest.approx(expected[1][key], abs=1e-6)
    assert model.logits(x[:1]) == pytest.approx(network(SiLU()).logits(x[:1]), abs=1e-6)
    assert not fallbacks(caplog)


def test_an_activation_in_a_definition() -> None:
    kind = kernel.activation("Swish", swish, swish_slope)
    described = description.to_definition(network(kind(2.0)))
    assert described["layers"][1] == {"type": "Swish", "beta": 2.0}
    assert repr(definition.from_definition(described).layers["1"]) == "Swish(beta=2.0)"
    with pytest.raises(ConfigurationError, match="Swish: beta must be a finite number, got 'a'"):
        kind("a")


def test_the_later_of_two_of_one_name_counts() -> None:
    """As when a cell of a notebook runs again; what was made before keeps its formula."""
    x, y = samples()
    target = y[:, None] * np.ones(3)
    made = []
    for factor, name in ((1.0, "first"), (3.0, "second")):
        spaces: dict[str, Any] = {"kernel": kernel}
        exec(
            f"value = lambda x, {name}={factor}: {name} * x\n"
            f"slope = lambda x, {name}={factor}: {name} + 0.0 * x\n"
            f"error = lambda p, t, {name}={factor}: {name} * (p - t)\n"
            f"unit = lambda p, t, {name}={factor}: {name} + 0.0 * p\n"
            f"update = lambda p, g, lr, step, {name}={factor}: p - {name} * lr * g\n",
            spaces,
        )
        layer = kernel.activation("Scaled", spaces["value"], spaces["slope"])()
        loss = kernel.loss("Distance", spaces["error"], spaces["unit"])()
        made.append((factor, network(layer), loss, kernel.optimizer("Step", spaces["update"])()))
    for backend in ("im2col", "lanes"):
        for factor, model, loss, optimizer in made:
            expected = network(Scale(init=factor, trainable=False))
            assert model.logits(x, backend=backend) == pytest.approx(expected.logits(x), abs=1e-5)
            found = loss(model.logits(x), target, backend=backend)
            assert found == pytest.approx(factor * (model.logits(x) - target).mean(), abs=1e-5)
            trained, other = deepcopy(model), deepcopy(model)
            options = {"epochs": 1, "batch_size": 8, "backend": backend, "diagnose": False}
            fastcnn.fit(trained, (x, y), optimizer=optimizer, **options)
            fastcnn.fit(other, (x, y), optimizer=fastcnn.optim.SGD(lr=0.01 * factor), **options)
            assert trained.parameter_vector == pytest.approx(other.parameter_vector, abs=1e-5)
    assert [repr(each[1]["1"]) for each in made] == ["Scaled(first=1.0)", "Scaled(second=3.0)"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_variables_are_those_of_the_definition(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def times(x: Any) -> Any:
        return FACTOR * x  # noqa: F821

    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    linked, factor = kernel.linked(times), 2.0
    kinds = [
        kernel.activation("Times", times, lambda x: FACTOR),  # noqa: F821
        kernel.activation("Linked", lambda x: linked(x), lambda x: FACTOR),  # noqa: F821
        kernel.activation("Around", lambda x: factor * x, lambda x: factor),
    ]
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    factor = 3.0
    x = np.ones((2, 3), np.float32)
    for kind in kinds:
        assert (Sequential(kind(), input_shape=(3,)).logits(x, backend=backend) == 2.0).all()


def test_wrong_derivatives_are_refused() -> None:
    with pytest.raises(GradientError, match=r"Swish: the derivative at .* differences .* give"):
        kernel.activation("Swish", swish, lambda x, beta=1.0: kernel.sigmoid(beta * x))
    with pytest.raises(GradientError, match="MyHuber: the derivative"):
        kernel.loss("MyHuber", huber, lambda p, t, delta=1.0: p - t)
    assert "swish" not in OPERATIONS
    assert "myhuber" not in LOSSES


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_formula_may_have_no_value_at_zero(backend: str) -> None:
    """Nor at negative numbers; idle lanes have no influence."""
    log = kernel.activation("Log", lambda x: np.log(x), lambda x: 1.0 / x)
    cusp = kernel.activation("Cusp", lambda x: np.log(np.abs(x)), lambda x: 1.0 / x)
    model = Sequential(
        log(),
        Conv2d(2, 3, 1, bias=False, seed=0),
        BatchNorm2d(3),
        cusp(),
        Flatten(),
        Linear(27, 3, seed=1),
        input_shape=(2, 3, 3),
    )
    x = np.random.default_rng(0).uniform(0.5, 2.0, (19, 2, 3, 3)).astype(np.float32)
    exact, y = deepcopy(model).to(np.float64), np.arange(19) % 3
    _, found = fastcnn.gradients(model, x, y, backend=backend, training=True)
    _, wanted = fastcnn.gradients(exact, x, y, backend="im2col", training=True)
    for key in wanted:
        assert found[key] == pytest.approx(wanted[key], rel=1e-2, abs=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernel.activation("ReLU", swish, swish_slope), "already has a layer called ReLU"),
        (
            lambda: kernel.activation("Conv2d", swish, swish_slope),
            "already has a layer called Conv2d",
        ),
        (lambda: kernel.activation("a b", swish, swish_slope), "must be a Python name, got 'a b'"),
        (lambda: kernel.activation("A", swish, lambda x: x), "must take the same numbers"),
        (lambda: kernel.activation("A", lambda x, a: x, swish), "a must have a finite number as"),
        (
            lambda: kernel.activation("A", lambda x, a=10**400: x, lambda x, a=10**400: 1.0),
            "a must have a finite number as",
        ),
        (
            lambda: kernel.activation("A", lambda x: x * 10**400, lambda x: x),
            "A: a number is too large",
        ),
        (
            lambda: kernel.activation("A", lambda x, a=math.nan: x, lambda x, a=math.nan: 1.0),
            "a must have a finite number as",
        ),
        (
            lambda: kernel.activation("A", lambda x, parameters=1.0: x, swish),
            "a number cannot be called parameters, which is an attribute of the class",
        ),
        (lambda: kernel.activation("A", lambda x, self=1.0: x, swish), "cannot be called self"),
        (lambda: kernel.loss("L", lambda p, t, operation=1.0: p, huber), "be called operation"),
        (lambda: kernel.optimizer("O", lambda p, g, lr, n, kind=1.0: p - g), "be called kind"),
        (lambda: kernel.activation("A", lambda: 1.0, swish), "must take 1 value"),
        (lambda: kernel.activation("A", 3, swish), "must be a function, got 3"),
        (lambda: kernel.loss("MSE", huber, huber_slope), "already has a loss called mse"),
        (lambda: kernel.loss("L", swish, swish_slope), "must take 2 values"),
        (lambda: kernel.optimizer("SGD", huber), "already has an optimiser called sgd"),
        (lambda: kernel.optimizer("O", huber), "must take 4 values"),
        (lambda: kernel.optimizer("O", huber, ("a", "b", "c", "d")), "at most 3 names"),
        (lambda: kernel.activation("A", lambda x: max(x, 0.0), lambda x: x), "must accept arrays"),
        (lambda: kernel.activation("A", lambda x: math.exp(x), lambda x: x), "instead of math's"),
        (lambda: kernel.activation("A", lambda x: 2.0, lambda x: 1.0), "derivative at"),
        (lambda: kernel.activation("A", lambda x: np.log(x), lambda x: x), "derivative at"),
        (lambda: kernel.activation("A", lambda x: np.log(-x * x), lambda x: x), "give nan"),
        (lambda: kernel.loss("L", lambda p, t: p if p > t else t, huber), "must take"),
        (lambda: kernel.optimizer("O", lambda p, g, lr, n: p if g > 0 else -p), "accept arrays"),
        (lambda: kernel.optimizer("O", lambda p, g, lr, n: (p, g)), "an array, got a tuple of 2"),
        (lambda: kernel.optimizer("O", lambda p, g, m, lr, n: p, ("m",)), "and m, got no tuple"),
        (
            lambda: kernel.activation("A", lambda x: x if x.sum() > 0.0 else -x, lambda x: 1.0),
            "A: a formula's value for an element must not depend on other elements",
        ),
        (lambda: kernel.optimizer("O", lambda p, g, lr, n: p - lr * g.mean()), "other elements"),
        (lambda: kernel.optimizer("O", lambda p, g, lr, n: p - lr * g.cumsum()), "other elements"),
        (lambda: kernel.optimizer("O", lambda p, g, lr, n: None), "must accept arrays"),
        (
            lambda: kernel.optimizer("Bound", lambda p, g, lr, n: p - lr * g)(lr=-1),
            "lr must be a finite number of at least 0, got -1",
        ),
        (lambda: kernel.activation("A", lambda x: x[:3], lambda x: 1.0), "must accept arrays"),
        (lambda: kernel.activation("A", lambda x: (x, x), lambda x: 1.0), "arrays, got a tuple"),
        (lambda: kernel.activation("A", lambda x: x, lambda x: (x, x)), "arrays, got a tuple"),
    ],
)
def test_bad_arguments(call: Any, message: str) -> None:
    with pytest.raises((ConfigurationError, GradientError), match=message):
        call()


@pytest.mark.parametrize("backend", BACKENDS)
def test_formulas_may_be_constants(backend: str) -> None:
    constant = kernel.activation("Constant", lambda x: 2.0, lambda x: 0.0)
    x, y = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    assert (
        Sequential(constant(), input_shape=(3,)).logits(x, backend=backend).tolist()
        == [[2.0] * 3] * 5
    )
    difference = kernel.loss("Difference", lambda p, t: p - t, lambda p, t: 1.0)()
    fixed = kernel.loss("Fixed", lambda p, t: 3.0, lambda p, t: 0.0)()
    assert difference(x, y, backend=backend) == pytest.approx((x - y).mean(), rel=1e-5)
    assert difference.gradient(x, y, backend=backend) == pytest.approx(np.full((5, 3), 1 / 15))
    assert fixed(x, y, backend=backend) == pytest.approx(3.0)
    model = Sequential(Linear(3, 3, seed=0), input_shape=(3,))
    found, gradients = fastcnn.gradients(model, x, y, loss=difference, backend=backend)
    assert found == pytest.approx((model.logits(x) - y).mean(), rel=1e-5)
    assert gradients["0.bias"] == pytest.approx(np.full(3, 1 / 3))


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_have_the_model_s_type(backend: str) -> None:
    kind = kernel.activation(
        "Steps",
        lambda x: np.where(x > 0, 1.0, 0.5) + kernel.erf(x),
        lambda x: np.where(x > 0, 1.0, 1.0) * kernel.exp(-x * x) * (4.0 / math.pi) ** 0.5,
    )
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    for dtype in (np.float32, np.float64):
        model = Sequential(kind(), input_shape=(3,)).to(dtype)
        assert model.logits(x, backend=backend).dtype == dtype
        given = x.astype(dtype)
        assert get_backend(backend).steps_backward(given, given).dtype == dtype


def test_what_cannot_be_compiled_runs_on_im2col(caplog: pytest.LogCaptureFixture) -> None:
    def value(x: Any) -> Any:
        return np.cos(x)  # which the engine's vectors do not have

    kind = kernel.activation("Cosine", value, lambda x: -np.sin(x))
    x, y = samples()
    with caplog.at_level(logging.WARNING):
        lanes = fastcnn.gradients(network(kind()), x, y)
    expected = fastcnn.gradients(network(kind()), x, y, backend="im2col")
    assert lanes[0] == pytest.approx(expected[0], rel=1e-6)
    assert any("numba does not support cos(" in message for message in fallbacks(caplog))
    one = network(kind()).logits(x[:1])  # a single sample has a program of its own
    assert one == pytest.approx(network(kind()).logits(x[:1], backend="im2col"))


def test_sums_of_truth_values_are_truth_values_as_in_numpy() -> None:
    """Also of a vector's and a number's."""

    def value(x: Any, low: float = 0.5) -> Any:
        return x * ((x > low) + (low > 0))

    kind = kernel.activation("Kept", value, lambda x, low=0.5: 1.0 + 0.0 * x)
    x = np.linspace(-2.0, 2.0, 32, dtype=np.float32)[None]
    assert np.array_equal(Sequential(kind(), input_shape=(32,)).logits(x), x)


#: Formulas of the engine's vectors.
FORMULAS: list[Callable[[Any], Any]] = [
    lambda x: x**2,
    lambda x: x**3 - (1 + x) ** -2,
    lambda x: x**0 + x**7,
    lambda x: abs(x) + np.abs(+x) + np.absolute(x),
    lambda x: np.square(x) + np.sqrt(x * x),
    lambda x: np.sign(x) + x,
    lambda x: np.clip(x, -1.5, 2.5),
    lambda x: np.where((x > -1) & (x < 3) | (x > 50), x, 0.0),
    lambda x: np.where(~(x < 0) ^ (x == 3), x, -1.0),
    lambda x: x * (x > 0) + 2.0 * (x >= 3.0) - (x > 1) / 2,
    lambda x: np.log(x),
    lambda x: np.log1p(x),
    lambda x: np.exp(x),
    lambda x: np.expm1(-x),
    lambda x: kernel.exp(kernel.absolute(x)),
    lambda x: 1 / (1 + np.exp(-x)),
]


@pytest.mark.parametrize("formula", FORMULAS, ids=map(str, range(len(FORMULAS))))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_formulas_on_the_engine(
    formula: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As numpy's, also at numbers whose exponential overflows."""
    monkeypatch.setattr(kernel, "_check_derivative", lambda *given: None)
    kind = kernel.activation("Formula", formula, lambda x: 1.0)
    ends = [-np.inf, -1e10, -200, -100, -88.6, 88.3, 88.5, 88.7, 88.73, 89, 100, 200, 1e10, np.inf]
    x = np.array([*ends, np.nan, 0.0, *np.linspace(-5.0, 5.0, 48)], np.float32)
    found = Sequential(kind(), input_shape=(x.size,)).logits(x[None])[0]
    expected = formula(x.astype(np.float64)).astype(np.float32)
    assert found == pytest.approx(expected, rel=6e-6, abs=1e-6, nan_ok=True)
    assert not fallbacks(caplog)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_loss(weighted: bool, caplog: pytest.LogCaptureFixture) -> None:
    kind = kernel.loss("MyHuber", huber, huber_slope)
    assert kind(0.5).arguments == {"delta": 0.5, "reduction": "mean"}
    x, y = samples()
    weight = np.linspace(0.1, 2.0, 40) if weighted else None
    found = {}
    for backend in BACKENDS:
        model = network(SiLU())
        data = (x, y) if weight is None else (x, y, weight)
        history = fastcnn.fit(
            model, data, epochs=2, batch_size=16, loss=kind(0.5), backend=backend, diagnose=False,
            optimizer=SGD(0.1), seed=3,
        )  # fmt: skip
        found[backend] = history.final["train_loss"], model.parameter_vector.copy()
    for backend in ("im2col", "lanes"):
        assert found[backend][0] == pytest.approx(found["reference"][0], rel=1e-5)
        assert found[backend][1] == pytest.approx(found["reference"][1], abs=1e-5)
    assert not fallbacks(caplog)


def test_half_the_squared_error_is_half_the_package_s() -> None:
    kind = kernel.loss("HalfSquare", lambda p, t: 0.5 * (p - t) * (p - t), lambda p, t: p - t)
    x, y = samples()
    for backend in BACKENDS:
        half = fastcnn.gradients(network(SiLU()), x, y, loss=kind(), backend=backend)
        whole = fastcnn.gradients(network(SiLU()), x, y, loss=MSELoss(), backend=backend)
        assert 2.0 * half[0] == pytest.approx(whole[0], rel=1e-6)
        for key, gradient in whole[1].items():
            assert 2.0 * half[1][key] == pytest.approx(gradient, abs=1e-6)


def momentum(p: Any, g: Any, v: Any, lr: float, step: float, beta: float = 0.9) -> Any:
    v = beta * v + g
    return p - lr * v, v


def adam(
    p: Any, g: Any, m: Any, v: Any, lr: float, step: float, beta1: float = 0.9,
    beta2: float = 0.999, eps: float = 1e-8,
) -> Any:  # fmt: skip
    m = beta1 * m + (1.0 - beta1) * g
    v = beta2 * v + (1.0 - beta2) * g * g
    root = np.sqrt(v / (1.0 - beta2**step)) + eps
    return p - lr * (m / (1.0 - beta1**step)) / root, m, v


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize(
    ("update", "slots", "like"),
    [
        (lambda p, g, lr, step: p - lr * g, (), SGD(0.02)),
        (lambda p, g, lr, step: kernel.where(step > 0, p - lr * g, p), (), SGD(0.02)),
        (lambda p, g, lr, step: np.where(step > 99, p, p - lr * g * (step > 0)), (), SGD(0.02)),
        (momentum, ("velocity",), SGD(0.02, momentum=0.9)),
        (adam, ("mean", "square"), Adam(0.02)),
    ],
    ids=["sgd", "where", "where of numpy", "momentum", "adam"],
)
def test_an_optimizer(
    update: Any, slots: tuple[str, ...], like: Any, clip: float | None,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    kind = kernel.optimizer("Mine", update, slots, lr=0.02)
    assert kind().lr == 0.02
    x, y = samples()
    found = []
    for optimizer in (like, kind()):
        for backend in ("im2col", "lanes"):
            model = network(SiLU())
            fastcnn.fit(
                model, (x, y), epochs=3, batch_size=16, optimizer=optimizer, backend=backend,
                clip_norm=clip, seed=1, diagnose=False,
            )  # fmt: skip
            found.append(model.parameter_vector.copy())
    for vector in found[1:]:
        assert vector == pytest.approx(found[0], abs=5e-5)
    assert not fallbacks(caplog)
    with pytest.raises(ConfigurationError, match="Mine: lr must be a finite number"):
        kind(lr="fast")


OWN = """
import sys
import numpy as np
from fastcnn import Flatten, Linear, Sequential, kernel

@kernel.linked
def bell(x):
    return np.exp(-x * x)

Bell = kernel.activation("Bell", lambda x, scale=1.0: scale * bell(x),
                         lambda x, scale=1.0: -2 * scale * x * bell(x))
Half = kernel.loss("Half", lambda p, t: 0.5 * (p - t) ** 2, lambda p, t: p - t)

def update(p, gradient, speed, lr, step, beta=0.9):
    speed = beta * speed + gradient
    return p - lr * speed, speed

Heavy = kernel.optimizer("Heavy", update, ("speed",))

def build():
    return Sequential(Linear(6, 4, seed=0), Bell(scale=2.0), Linear(4, 2, seed=1), input_shape=(6,))
"""

TRAINED = """
def trained(build, model, loss, optimizer):
    from fastcnn import fit
    x = np.random.default_rng(0).standard_normal((32, 6)).astype(np.float32)
    found = []
    for each in (build(), model):
        fit(each, (x, x[:, :2]), epochs=2, loss=loss, optimizer=optimizer, verbose=False)
        found.append(each.parameter_vector.tobytes().hex())
    return found
"""


@pytest.mark.parametrize("where", ["module", "script"])
def test_own_kernels_can_be_sent_to_another_process(where: str, tmp_path: Path) -> None:
    """By the name of their module, or by value from a script, as joblib sends them."""
    if where == "module":
        dump = "from pickle import dumps"
        tmp_path.joinpath("own.py").write_text(OWN + TRAINED, "utf-8")
        script = f"{dump}\nimport numpy as np\nfrom own import *\n"
    else:
        pytest.importorskip("cloudpickle")  # of joblib
        script = f"from cloudpickle import dumps\n{OWN}{TRAINED}"
    script += (
        "sent = trained, build, build(), Half(), Heavy(lr=0.1)\n"
        "open(sys.argv[1], 'wb').write(dumps(sent))\n"
        "print(*trained(*sent[1:]))\n"
    )
    receive = (
        "import pickle, sys\ntrained, *given = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(*trained(*given))\n"
    )
    tmp_path.joinpath("send.py").write_text(script, "utf-8")
    tmp_path.joinpath("receive.py").write_text(receive, "utf-8")
    printed = [
        subprocess.run(
            [sys.executable, name, "sent"], cwd=tmp_path, check=True, text=True, stdout=-1
        ).stdout
        for name in ("send.py", "receive.py")
    ]
    one, other = printed[0].split()
    assert one == other
    assert printed[0] == printed[1]


@pytest.mark.parametrize("kind", ["activation", "loss", "optimizer"])
def test_another_formula_of_the_name_is_not_taken_for_the_one_sent(kind: str) -> None:
    """As in a process that works for several users; one that is sent does not keep its name."""
    cloudpickle = pytest.importorskip("cloudpickle")

    def make(power: float) -> Any:
        def value(x: Any, s: float = 1.0) -> Any:
            return s**power * x

        def slope(x: Any, s: float = 1.0) -> Any:
            return s**power + 0 * x

        def scaled(p: Any, t: Any, s: float = 1.0) -> Any:
            return s**power * p * t

        def scale(p: Any, t: Any, s: float = 1.0) -> Any:
            return s**power * t + 0 * p

        def update(p: Any, g: Any, slot: Any, lr: Any, step: Any, s: float = 1.0) -> Any:
            return p - lr * s**power * g, slot

        if kind == "optimizer":
            return kernel.optimizer("Sent", update, ("slot",))
        given = (scaled, scale) if kind == "loss" else (value, slope)
        return getattr(kernel, kind)("Sent", *given)

    def forget() -> None:
        for table in (*TABLES.values(), LAYERS, LOSSES, OPTIMIZERS, TYPES):
            table.pop("sent", None), table.pop("Sent", None)

    sent = cloudpickle.dumps(make(2.0))
    assert cloudpickle.loads(sent)._entry.record.name == "sent"
    forget()
    make(3.0)
    with pytest.raises(ConfigurationError, match="has another formula called sent: rename one"):
        cloudpickle.loads(sent)
    forget()
    cloudpickle.loads(sent)
    assert make(3.0)._entry.record.name == "sent_2"
