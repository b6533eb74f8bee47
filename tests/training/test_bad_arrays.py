"""Arrays that would be misinterpreted, and invalid outputs, are refused by every entry point."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.data import Preprocessing
from fastcnn.errors import ConfigurationError, DataError, NonFiniteError, ShapeError
from fastcnn.layers import BatchNorm2d, Flatten, Linear, Sequential
from fastcnn.layers.init import Normal

X = np.random.default_rng(0).random((12, 1, 4, 4), np.float32)
Y = np.arange(12) % 3


def net() -> Sequential:
    return Sequential(Flatten(), Linear(16, 3, seed=0), input_shape=(1, 4, 4))


#: Every entry point that takes samples, with targets if it takes any.
ENTRIES: dict[str, Callable[[Any, Any], Any]] = {
    "fit": lambda x, y: fastcnn.fit(net(), (x, y), epochs=1, diagnose=False),
    "test": lambda x, y: fastcnn.fit(net(), (X, Y), (x, y), epochs=1, diagnose=False),
    "evaluate": lambda x, y: fastcnn.evaluate(net(), (x, y)),
    "gradients": lambda x, y: fastcnn.gradients(net(), x, y),
    "logits": lambda x, y: net().logits(x),
    "predict": lambda x, y: net().predict(x),
    "predict_proba": lambda x, y: net().predict_proba(x),
}
WITH_TARGETS = ("fit", "test", "evaluate", "gradients")


@pytest.mark.parametrize("entry", ENTRIES)
def test_masked_samples_are_refused(entry: str) -> None:
    with pytest.raises(DataError, match=r"samples: [0-9]+ masked values: masks are"):
        ENTRIES[entry](np.ma.masked_greater(X, 0.5), Y)
    ENTRIES[entry](np.ma.masked_array(X), Y)  # no value is masked


@pytest.mark.parametrize("entry", WITH_TARGETS)
def test_masked_targets_are_refused(entry: str) -> None:
    with pytest.raises(DataError, match="targets: 4 masked values: masks are"):
        ENTRIES[entry](X, np.ma.masked_equal(Y, 1))


@pytest.mark.parametrize("entry", WITH_TARGETS)
def test_lists_of_different_lengths_are_refused(entry: str) -> None:
    with pytest.raises(DataError, match="targets: not an array"):
        ENTRIES[entry](X, [[1], [1, 2]] * 6)
    with pytest.raises(DataError, match="samples: not an array"):
        ENTRIES[entry]([[[1.0]], [[1.0, 2.0]]] * 6, Y)


@pytest.mark.parametrize("entry", ENTRIES)
def test_what_does_not_become_an_array_is_refused(entry: str) -> None:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad")

    class Sparse:
        def toarray(self) -> np.ndarray:
            raise AssertionError("must not be called")

    with pytest.raises(DataError, match=r"samples: not an array \(Can't call numpy"):
        ENTRIES[entry](Tensor(), Y)
    with pytest.raises(DataError, match=r"samples: not an array, got Sparse: pass what its"):
        ENTRIES[entry](Sparse(), Y)


def test_masked_weights_are_refused() -> None:
    weight = np.ma.masked_equal(np.arange(1.0, 13.0), 3.0)
    with pytest.raises(DataError, match="sample weights: 1 masked value:"):
        fastcnn.fit(net(), (X, Y, weight), epochs=1)


def test_estimators_refuse_masks() -> None:
    estimators = pytest.importorskip("fastcnn.estimators", exc_type=ImportError)
    classifier = estimators.CNNClassifier(epochs=1)
    with pytest.raises(DataError, match=r"X: [0-9]+ masked values: masks are"):
        classifier.fit(np.ma.masked_greater(X, 0.5), Y)
    with pytest.raises(DataError, match="y: 4 masked values: masks are"):
        classifier.fit(X, np.ma.masked_equal(Y, 1))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_no_class_from_outputs_that_are_not_finite(method: str, bad: float) -> None:
    x = X.copy()
    x[[5, 7], 0, 2, 2] = bad
    with pytest.raises(
        NonFiniteError,
        match=f"{method}: NaN or infinity in outputs of 2 samples, first that of sample",
    ):
        getattr(net(), method)(x)
    assert not np.isfinite(net().logits(x)[5]).any()


def test_a_model_that_is_all_frozen_is_not_trained() -> None:
    model = net()
    model.requires_grad = False
    with pytest.raises(ConfigurationError, match="training would change nothing"):
        fastcnn.fit(model, (X, Y), epochs=1)


def test_statistics_of_a_frozen_model_may_be_measured() -> None:
    model = Sequential(BatchNorm2d(1), Flatten(), Linear(16, 3, seed=0), input_shape=(1, 4, 4))
    model.requires_grad = False
    before = model.copy_state()
    fastcnn.fit(model, (X, Y), epochs=1, diagnose=False)
    changed = {key for key, value in model.state_dict().items() if np.any(value != before[key])}
    assert changed == {"0.running_mean", "0.running_var", "0.num_batches_tracked"}


def test_masked_arguments_of_functions_are_refused() -> None:
    weight = np.ones((2, 1, 3, 3), np.float32)
    with pytest.raises(DataError, match=r"conv2d: x: [0-9]+ masked values: masks are"):
        fastcnn.functional.conv2d(np.ma.masked_greater(X, 0.5), weight)


def test_no_samples_are_refused() -> None:
    with pytest.raises(ShapeError, match="train: there are no samples"):
        fastcnn.fit(net(), (X[:0], Y[:0]), epochs=1)


def test_a_batch_is_no_larger_than_the_data() -> None:
    losses = [
        fastcnn.fit(net(), (X, Y), epochs=2, batch_size=size, diagnose=False).final["train_loss"]
        for size in (len(X), 2**31 - 1)
    ]
    assert losses[0] == losses[1]


def test_what_draws_no_weights_is_refused() -> None:
    for wrong in ("normal", 0.1, Normal):
        with pytest.raises(ConfigurationError, match="must be an initialiser"):
            net().initialize(wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="weight_init must be an initialiser"):
            Linear(4, 3, weight_init=wrong)  # type: ignore[arg-type]


def test_masked_weights_targets_and_data_sets_are_refused() -> None:
    model, masked = net(), np.ma.masked_greater(np.arange(3, dtype=np.float32), 1)
    with pytest.raises(DataError, match=r"1\.bias: 1 masked value:"):
        model.load_state_dict({**model.copy_state(), "1.bias": masked})
    with pytest.raises(DataError, match="bias: 1 masked value:"):
        model.layers["1"].bias = masked  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="target: 4 masked values: masks are"):
        fastcnn.functional.cross_entropy(np.ones((12, 3), np.float32), np.ma.masked_equal(Y, 1))
    for images, labels in ((np.ma.masked_greater(X, 0.5), Y), (X, np.ma.masked_equal(Y, 1))):
        with pytest.raises(DataError, match="masked values: masks are"):
            fastcnn.Dataset(images, labels, ("0", "1", "2"), Preprocessing())


@pytest.mark.parametrize("name", ["shift", "crop", "cutout"])
def test_changes_as_large_as_the_pictures_are_refused(name: str) -> None:
    augment = fastcnn.data.Augment(**{name: 4})
    with pytest.raises(ConfigurationError, match=rf"{name} must be smaller than"):
        fastcnn.fit(net(), (X, Y), epochs=1, augment=augment)


def test_a_metric_that_is_always_one_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="top3 is always 1 for 3 classes"):
        fastcnn.fit(net(), (X, Y), (X, Y), epochs=1, metrics=["top3"])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (1e8 + np.float64(X), Y, r"samples: values near 1e\+08 with a deviation of 0.2.*channel 0"),
        (1e-50 * np.float64(X), Y, r"samples: values up to .*e-51 do not fit float32"),
        (1e-200 * np.float64(X), Y, r"samples: values up to .*e-201 do not fit float32"),
        (1e300 * np.float64(X), Y, "samples: values up to .* do not fit float32"),
        (X, 1e9 + np.float64(X[:, 0, 0, :3]), r"targets: values near 1e\+09"),
    ],
)
def test_float64_of_which_float32_would_keep_little_is_refused(
    x: Any, y: Any, message: str
) -> None:
    options = {"epochs": 1, "lr": 0.0, "diagnose": False}
    options["loss"] = "cross_entropy" if y is Y else "mse"
    with pytest.raises(DataError, match=f"train: {message}"):
        fastcnn.fit(net(), (x, y), **options)
    if "near" in message:
        fastcnn.fit(net().to(np.float64), (x, y), **options)
    if "samples: values near" in message:
        model = net()
        model.preprocessing = Preprocessing((float(x.mean()),), (1.0,))
        fastcnn.fit(model, (x, y), **options)


def test_one_feature_far_from_0_is_enough() -> None:
    x = np.random.default_rng(1).standard_normal((12, 4))
    x[:, 3] = 0.1
    x[3, 3] += 2e-17  # a constant, up to its rounding in float64
    model = Sequential(Linear(4, 3, seed=0), input_shape=(4,))
    fastcnn.fit(model, (x, Y), epochs=1, diagnose=False)
    x[:, 1] += 1e7
    with pytest.raises(
        DataError, match=r"1e\+07 .*, in column 1, cannot be .* leave out the column"
    ):
        fastcnn.fit(model, (x, Y), epochs=1, diagnose=False)


def test_a_part_of_the_data_may_vary_less_than_the_whole() -> None:
    """Its differences are as small as those that were rounded away in training."""
    x = np.random.default_rng(0).random((12, 2))
    x[:, 0] += np.linspace(0.0, 30.0, 12)
    near = 48.85 + 1e-5 * x
    model = Sequential(Linear(2, 3, seed=0), input_shape=(2,))
    options: dict[str, Any] = {"epochs": 1, "diagnose": False, "loss": "mse"}
    with pytest.raises(DataError, match="cannot be distinguished"):
        fastcnn.fit(model, (near, np.eye(3)[Y]), **options)
    fastcnn.fit(model, (x, x @ np.ones((2, 3))), (near, near @ np.ones((2, 3))), **options)
    fastcnn.evaluate(model, (near, near @ np.ones((2, 3))), loss="mse")
    fastcnn.fit(model, ((near, np.eye(3)[Y]) for _ in range(2)), steps_per_epoch=2, **options)


def test_features_that_are_0_in_float32_are_allowed_among_others() -> None:
    """Such as those of a kernel that is far from all samples."""
    x = np.random.default_rng(0).random((12, 2))
    x[:, 1] *= 1e-150
    fastcnn.fit(
        Sequential(Linear(2, 3, seed=0), input_shape=(2,)), (x, Y), epochs=1, diagnose=False
    )
