"""The scikit-learn estimators: scikit-learn's own checks, and typical uses."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import joblib
from sklearn.base import clone
from sklearn.datasets import load_digits, make_friedman1
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_info

from fastcnn.data import draw_digits
from fastcnn.errors import ConfigurationError, DataError, NonFiniteError, ShapeError
from fastcnn.estimators import CNNClassifier, CNNRegressor, CNNTransformer
from fastcnn.layers import Conv1d, Flatten, GlobalAvgPool1d, Linear, ReLU, Sequential
from fastcnn.losses import CrossEntropyLoss
from fastcnn.models import report_cnn
from fastcnn.optim import SGD


@parametrize_with_checks(
    [CNNClassifier(), CNNRegressor(), CNNTransformer(CNNClassifier(epochs=2, random_state=0))]
)
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def slow_and_fast(outputs: int, seed: int = 0) -> Sequential:
    return Sequential(
        Conv1d(2, 8, 5, seed=seed), ReLU(), GlobalAvgPool1d(), Flatten(),
        Linear(8, outputs, seed=seed),
    )  # fmt: skip


@pytest.mark.parametrize(
    "network", [slow_and_fast(2), lambda shape, outputs, seed: slow_and_fast(outputs, seed)]
)
def test_sequences(network: Any) -> None:
    generator = np.random.default_rng(0)
    y = np.arange(60) % 2
    phases = generator.uniform(0, 6, (60, 2, 1))
    X = np.sin((0.3 + y)[:, None, None] * np.arange(40) + phases)
    made = CNNClassifier(network, lr=0.02, epochs=60, random_state=0).fit(X, y)
    assert made.input_shape_ == (2, 40)
    assert made.score(X, y) > 0.95
    flat = CNNClassifier(network, input_shape=(2, 40), lr=0.02, epochs=60, random_state=0)
    flat.fit(X.reshape(60, -1), y)
    assert (flat.predict_proba(X.reshape(60, -1)) == made.predict_proba(X)).all()
    with pytest.raises(ShapeError, match="layer '0', Conv1d"):
        made.fit(X[:, :1], y)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    return draw_digits(600, classes=(0, 1, 2), seed=3)


@pytest.fixture(scope="module")
def small() -> tuple[np.ndarray, np.ndarray]:
    """Eight by eight digits in flat rows."""
    X, y = load_digits(return_X_y=True)
    return X[:600], y[:600]


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images,
        lambda images: images[:, 0],
        lambda images: images.reshape(len(images), -1),
        lambda images: images.astype(np.float64),
        lambda images: images.astype(np.float32) / 255.0,
    ],
)
def test_images_in_every_layout(change: Any, digits: Any) -> None:
    X, y = change(digits[0]), digits[1]
    classifier = CNNClassifier("report_cnn", epochs=4, random_state=0).fit(X[:500], y[:500])
    assert classifier.input_shape_ == (1, 28, 28)
    assert classifier.score(X[500:], y[500:]) > 0.93
    assert classifier.predict_proba(X).sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_shapes_are_inferred_or_given(small: Any) -> None:
    X, y = small
    for given, expected in (
        (None, (1, 8, 8)), ((8, 8), (1, 8, 8)), ((1, 4, 16), (1, 4, 16)), ((64,), (64,)),
    ):  # fmt: skip
        classifier = CNNClassifier(input_shape=given, epochs=1).fit(X, y)
        assert classifier.input_shape_ == expected
        assert classifier.model_.dtype == (np.float64 if len(expected) == 1 else np.float32)
    assert CNNClassifier(epochs=1).fit(X[:, :10], y).input_shape_ == (10,)


@pytest.mark.parametrize(
    "architecture",
    [
        "cnn",
        "mlp",
        lambda shape, outputs, seed: Sequential(
            Flatten(), Linear(int(np.prod(shape)), outputs, seed=seed)
        ),
        Sequential(Flatten(), Linear(64, 10, seed=0)),
    ],
    ids=["cnn", "mlp", "callable", "model"],
)
def test_architectures(architecture: Any, small: Any) -> None:
    classifier = CNNClassifier(architecture, epochs=30, random_state=0)
    assert clone(classifier).fit(*small).score(*small) > 0.9
    if isinstance(architecture, Sequential):
        untouched = Sequential(Flatten(), Linear(64, 10, seed=0))
        assert (architecture.parameter_vector == untouched.parameter_vector).all()


def test_text_classes_and_probabilities(digits: Any) -> None:
    names = np.array(["zero", "one", "two"])
    X, y = digits[0], names[digits[1]]
    classifier = CNNClassifier(epochs=3, random_state=0).fit(X, y)
    assert classifier.classes_.tolist() == ["one", "two", "zero"]
    best = classifier.predict_proba(X).argmax(axis=1)
    assert (classifier.predict(X) == classifier.classes_[best]).all()
    assert classifier.decision_function(X).shape == (600, 3)


def test_the_same_seed_repeats_itself(small: Any) -> None:
    first, second, other = (
        CNNClassifier(epochs=2, random_state=seed).fit(*small).predict_proba(small[0])
        for seed in (0, 0, 1)
    )
    assert (first == second).all()
    assert (first != other).any()


def test_pipeline_and_cross_validation(small: Any) -> None:
    X, y = small
    pipeline = make_pipeline(MinMaxScaler(), CNNClassifier("mlp", epochs=50, random_state=0))
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.85
    Xr, yr = make_friedman1(300, random_state=0)
    regression = make_pipeline(StandardScaler(), CNNRegressor(random_state=0))
    assert cross_val_score(regression, Xr, yr, cv=3).mean() > 0.75


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_grid_search_in_workers(backend: str, small: Any) -> None:
    grid = {"lr": [1e-3, 3e-3], "architecture": ["cnn", "mlp"]}
    alone, shared = (
        GridSearchCV(CNNClassifier(epochs=5, random_state=0), grid, cv=2, n_jobs=jobs)
        for jobs in (None, 2)
    )
    alone.fit(*small)
    threads = _blas_thread_counts()
    with joblib.parallel_config(backend=backend):
        shared.fit(*small)
    assert shared.best_score_ > 0.7
    scores = [search.cv_results_["mean_test_score"] for search in (alone, shared)]
    assert scores[0] == pytest.approx(scores[1], abs=0.02)
    assert _blas_thread_counts() == threads, "a limit was left behind"


def _blas_thread_counts() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def _probe() -> tuple[int | None, int | None]:
    return CNNClassifier()._threads(), CNNClassifier(threads=3)._threads()


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_workers_use_one_thread(backend: str) -> None:
    assert _probe() == (None, 3)
    found = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(_probe)() for _ in range(2))
    assert found == [(1, 3)] * 2


def test_early_stopping(digits: Any) -> None:
    X, y = digits[0][:200], digits[1][:200]
    classifier = CNNClassifier(
        epochs=200, lr=0.01, early_stopping=True, n_iter_no_change=3, random_state=0
    ).fit(X, y)
    assert classifier.n_iter_ < 200
    assert classifier.history_.stop_reason is not None
    assert classifier.score(X, y) > 0.9


def test_class_weight_lifts_a_rare_class() -> None:
    generator = np.random.default_rng(0)
    y = (generator.uniform(size=1000) < 0.05).astype(int)
    X = generator.standard_normal((1000, 2)) + y[:, None]
    recalls = []
    for weight in (None, "balanced", {0: 1.0, 1: 1000.0}):
        classifier = CNNClassifier(class_weight=weight, epochs=10, random_state=0).fit(X, y)
        recalls.append((classifier.predict(X)[y == 1] == 1).mean())
    assert recalls[0] < 0.3 < 0.6 < recalls[1] < recalls[2]


def test_class_and_sample_weights_multiply(small: Any) -> None:
    X, y = small[0][:100], small[1][:100]
    generator = np.random.default_rng(0)
    factor = {digit: float(generator.uniform(0.5, 2)) for digit in range(10)}
    own = generator.uniform(0.5, 2, 100)
    make = {"epochs": 3, "random_state": 0}
    first = CNNClassifier(class_weight=factor, **make).fit(X, y, own)
    second = CNNClassifier(**make).fit(X, y, own * np.vectorize(factor.get)(y))
    assert (first.predict_proba(X) == second.predict_proba(X)).all()


def test_balanced_weights_are_scikit_learns(small: Any) -> None:
    """Their scale matters if the loss is a sum."""
    X, y = small[0][:100], small[1][:100]
    loss = CrossEntropyLoss(reduction="sum")
    make = {"epochs": 3, "random_state": 0, "optimizer": "sgd", "lr": 1e-4, "loss": loss}
    first = CNNClassifier(class_weight="balanced", **make).fit(X, y)
    second = CNNClassifier(**make).fit(X, y, compute_sample_weight("balanced", y))
    assert first.predict_proba(X) == pytest.approx(second.predict_proba(X), abs=1e-4)


@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
def test_partial_fit_learns_and_survives_pickling(kind: Any, small: Any) -> None:
    X, y = small
    options = {"classes": np.arange(10)} if kind is CNNClassifier else {}
    first = kind(random_state=0, lr=3e-3)
    for start in range(0, 600, 200):
        first.partial_fit(X[start : start + 200], y[start : start + 200], **options)
    second = pickle.loads(pickle.dumps(first))
    third = copy.deepcopy(first)
    for estimator in (first, second, third):
        for _ in range(10):
            estimator.partial_fit(X, y)
    assert first.n_iter_ == 13
    assert (first.predict(X) == second.predict(X)).all()
    assert (first.predict(X) == third.predict(X)).all()
    assert first.score(X, y) > 0.6


def test_partial_fit_goes_on_after_fit(small: Any) -> None:
    classifier = CNNClassifier(epochs=1, random_state=0).fit(*small)
    before = classifier.score(*small)
    for _ in range(10):
        classifier.partial_fit(*small)
    assert classifier.score(*small) > before


def test_a_pickle_holds_the_weights_once(digits: Any) -> None:
    classifier = CNNClassifier("report_cnn", epochs=1).fit(*digits)
    steps = len(pickle.dumps(classifier.history_))
    assert len(pickle.dumps(classifier)) < 1.2 * 4 * classifier.model_.num_parameters + steps


def test_targets_whose_squares_are_no_numbers() -> None:
    generator = np.random.default_rng(0)
    X, y = generator.random((40, 5)), generator.random(40)
    options = {"epochs": 2, "random_state": 0}
    expected = CNNRegressor(**options).fit(X, y).predict(X)
    for power in (-600, 900):  # of 2
        found = CNNRegressor(**options).fit(X, np.ldexp(y, power)).predict(X)
        assert np.ldexp(found, -power).tolist() == expected.tolist()


def test_several_outputs_and_large_targets() -> None:
    X, y = make_friedman1(300, random_state=0)
    both = np.column_stack([1e6 + 1e5 * y, -1e-6 * y, np.full(300, 7.7)])
    regressor = CNNRegressor(random_state=0).fit(X, both)
    prediction = regressor.predict(X)
    assert prediction.shape == (300, 3)
    for column in (0, 1):
        assert np.corrcoef(prediction[:, column], both[:, column])[0, 1] > 0.9
    assert prediction[:, 2] == pytest.approx(7.7, abs=0.2)


def test_regression_on_images(digits: Any) -> None:
    ink = digits[0].mean(axis=(1, 2, 3))
    regressor = CNNRegressor(epochs=30, random_state=0).fit(digits[0][:500], ink[:500])
    assert regressor.score(digits[0][500:], ink[500:]) > 0.65


X8, Y8 = np.random.default_rng(0).standard_normal((20, 64)), np.arange(20) % 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"architecture": "resnet"}, ConfigurationError, "architecture must be one of auto, mlp"),
        ({"architecture": report_cnn()}, ShapeError, "layer"),
        ({"architecture": "lenet5"}, ShapeError, "'conv2'.* larger than the padded input"),
        ({"architecture": lambda *_: 3}, ConfigurationError, "returned int"),
        ({"architecture": Sequential(Flatten(), Linear(64, 5))}, ConfigurationError, "2 are need"),
        ({"architecture": "cnn", "input_shape": (64,)}, ConfigurationError, "needs images"),
        ({"input_shape": (1, 9, 9)}, ShapeError, "do not fit"),
        ({"optimizer": "lamb"}, ConfigurationError, "optimizer must be one of"),
        ({"batch_size": 0}, ConfigurationError, "batch_size must be"),
        ({"epochs": -1}, ConfigurationError, "epochs must be"),
        ({"optimizer": SGD(lr=1e30)}, NonFiniteError, "diverged"),
    ],
)
def test_bad_parameters(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        CNNClassifier(**arguments).fit(X8, Y8)


def test_a_class_of_weight_zero_is_left_out(small: Any) -> None:
    X, y = small[0][:200], small[1][:200]
    first = CNNClassifier(class_weight={3: 0.0}, random_state=0)
    second = CNNClassifier(random_state=0)
    first.partial_fit(X, y, np.arange(10))
    second.partial_fit(X, y, np.arange(10), (y != 3).astype(float))
    assert (first.predict_proba(X) == second.predict_proba(X)).all()
    fitted = CNNClassifier(class_weight={3: 0.0}, epochs=10, random_state=0).fit(X, y)
    assert (fitted.predict(X) != 3).all()
    with pytest.raises(ValueError, match="Negative values"):
        CNNClassifier(class_weight={3: -1.0}).fit(X, y)


def test_a_learning_rate_may_be_an_integer(small: Any) -> None:
    for lr in (0, 1):
        CNNClassifier(optimizer="sgd", lr=lr, epochs=1, architecture="mlp").fit(
            small[0] / 16, small[1]
        )
        CNNRegressor(lr=lr).partial_fit(*small)


def test_samples_keep_their_shape(small: Any) -> None:
    images = small[0].reshape(-1, 1, 8, 8)
    classifier = CNNClassifier(epochs=1).fit(images, small[1])
    for shape in ((-1, 1, 4, 16), (-1, 1, 64)):
        with pytest.raises(ShapeError, match="as when the estimator was fitted"):
            classifier.predict(images.reshape(shape))
    for shape in (5, (1, 8.5, 8), (-1, 64), ()):
        with pytest.raises(ConfigurationError, match="input_shape must be"):
            CNNClassifier(input_shape=shape).fit(X8, Y8)


def test_targets_of_text() -> None:
    CNNRegressor(epochs=1).fit(X8, Y8.astype(str))
    with pytest.raises(ValueError, match="could not convert"):
        CNNRegressor(epochs=1).fit(X8, np.array(["a", "b"])[Y8])


def test_one_class_is_refused() -> None:
    text = np.array(["a"] * len(X8))
    with pytest.raises(DataError, match="at least two classes, got only one class, 'a'"):
        CNNClassifier().fit(X8, text)
    for known, found in ((["a"], "only one class, 'a'"), ([], "none")):
        with pytest.raises(DataError, match=f"at least two classes, got {found}"):
            CNNClassifier().partial_fit(X8, text, classes=known)


def test_bad_partial_fits() -> None:
    with pytest.raises(ConfigurationError, match="classes must be passed"):
        CNNClassifier().partial_fit(X8, Y8)
    with pytest.raises(ConfigurationError, match="'balanced' needs all samples"):
        CNNClassifier(class_weight="balanced").partial_fit(X8, Y8, classes=[0, 1])
    with pytest.raises(ConfigurationError, match="early_stopping"):
        CNNClassifier(early_stopping=True).partial_fit(X8, Y8, classes=[0, 1])
    with pytest.raises(DataError, match="not among the classes"):
        CNNClassifier().partial_fit(X8, Y8, classes=[0, 5])
    classifier = CNNClassifier(optimizer=SGD(lr=1e30)).partial_fit(X8, Y8, classes=[0, 1])
    before = classifier.model_.parameter_vector.copy()
    with pytest.raises(NonFiniteError, match="weights are those before"):
        classifier.partial_fit(X8, Y8)
    assert (classifier.model_.parameter_vector == before).all()
    regressor = CNNRegressor(backend="im2col").partial_fit(X8, Y8)
    with pytest.raises(ConfigurationError, match=r"continues with the optimizer of .* SGD\("):
        regressor.set_params(optimizer="sgd").partial_fit(X8, Y8)
    with pytest.raises(ShapeError, match="y has 2 outputs, 1 at the first call"):
        regressor.partial_fit(X8, np.column_stack([Y8, Y8]))


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e8])
def test_a_large_offset_is_taken_away_before_values_are_cut_to_float32(offset: float) -> None:
    generator = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = generator.random((60, 8, 8)) + 0.5 * y[:, None, None] + offset
    classifier = CNNClassifier(epochs=40, random_state=0).fit(X, y)
    exact = (X - X.mean()) / X.std()
    assert np.abs(classifier._as_input(X)[:, 0] - exact).max() < 1e-5
    assert classifier.score(X, y) > 0.95


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_channels_last(dtype: Any) -> None:
    generator = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = generator.integers(0, 256, (40, 12, 10, 3)).astype(dtype)
    X[y == 1, :6] //= 2
    first, last = (
        CNNClassifier(epochs=5, random_state=0).fit(part, y)
        for part in (np.ascontiguousarray(X.transpose(0, 3, 1, 2)), X)
    )
    assert (first.input_layout_, last.input_layout_) == ("NCHW", "NHWC")
    assert first.input_shape_ == last.input_shape_ == (3, 12, 10)
    assert (first.predict_proba(X.transpose(0, 3, 1, 2)) == last.predict_proba(X)).all()
    given = CNNClassifier(epochs=5, random_state=0, input_shape=(3, 12, 10)).fit(X, y)
    assert (given.predict_proba(X) == last.predict_proba(X)).all()


@pytest.mark.parametrize("shape", [(20, 8, 8, 8), (20, 3, 3, 3), (20, 16, 20, 30)])
def test_channels_that_may_be_either(shape: tuple[int, ...]) -> None:
    X = np.random.default_rng(0).random(shape)
    with pytest.raises(DataError, match=r"input_shape=\(C, H, W\)"):
        CNNClassifier(epochs=1).fit(X, Y8)
    classifier = CNNClassifier(epochs=1, input_shape=shape[1:]).fit(X, Y8)
    assert classifier.input_layout_ == "NCHW"


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        ((20, 1, 8, 8), (1, 4, 16)),
        ((20, 8, 8), (1, 4, 16)),
        ((20, 8, 8, 3), (8, 3, 8)),
        ((20, 12, 16), (3, 8, 8)),
    ],
)
def test_images_are_not_reshaped_into_others(shape: Any, given: Any) -> None:
    with pytest.raises(ShapeError, match="do not fit input_shape"):
        CNNClassifier(epochs=1, input_shape=given).fit(np.zeros(shape), Y8)


def test_an_input_shape_with_its_channels_last_is_refused() -> None:
    X = np.zeros((20, 12, 12, 3))
    with pytest.raises(ConfigurationError, match=r"give \(3, 12, 12\), got \(12, 12, 3\)"):
        CNNClassifier(epochs=1, input_shape=(12, 12, 3)).fit(X, Y8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_model_itself_normalises(dtype: Any, digits: Any) -> None:
    X, y = digits[0][:200].astype(dtype), digits[1][:200]
    classifier = CNNClassifier("report_cnn", epochs=2, random_state=0).fit(X, y)
    assert classifier.input_mean_ == pytest.approx(X.mean(dtype=float))
    assert classifier.input_std_ == pytest.approx(X.std(dtype=float))
    own = classifier.model_.predict_proba(X)
    assert classifier.predict_proba(X) == pytest.approx(own, abs=1e-6)
    for other in (np.uint8, np.float32, np.float64):
        assert classifier.predict_proba(X.astype(other)) == pytest.approx(own, abs=1e-4)


def test_floats_of_0_to_1_after_bytes_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """A number means the same in every dtype: these images are almost black."""
    X = np.random.default_rng(0).integers(0, 256, (20, 8, 8)).astype(np.uint8)
    model = CNNClassifier(epochs=1, random_state=0).fit(X, np.arange(20) % 2)
    model.predict(X.astype(np.float64))
    assert "in other units" not in caplog.text
    model.predict(X / 255)
    assert "X lies in 0..1, and the estimator was fitted on bytes of 0..255" in caplog.text


def test_bytes_are_not_made_larger(digits: Any) -> None:
    import tracemalloc

    X = np.repeat(digits[0], 20, axis=0)
    y = np.repeat(digits[1], 20)
    X.flags.writeable = False
    classifier = CNNClassifier("report_cnn", epochs=1, random_state=0)
    classifier.fit(X[:200], y[:200])
    tracemalloc.start()
    try:
        classifier.fit(X, y)
        classifier.predict(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * X.nbytes
