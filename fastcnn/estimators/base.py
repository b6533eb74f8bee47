"""The common base of classifier and regressor."""

import logging
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastcnn.arguments import MOST_THREADS, as_count, as_flag, plain_array
from fastcnn.data.dataset import ArrayDataset
from fastcnn.data.picture_sets import Reading, read_pictures
from fastcnn.data.pictures import Pictures
from fastcnn.data.preprocessing import Preprocessing, measure_normalisation
from fastcnn.errors import CheckpointError, ConfigurationError, NonFiniteError, ShapeError
from fastcnn.estimators.architectures import build_network, input_geometry, sample_shape
from fastcnn.execution import make_executor, predict_logits
from fastcnn.execution.workers import workers
from fastcnn.layers import Model
from fastcnn.losses import Loss
from fastcnn.optim import Optimizer, as_optimizer
from fastcnn.scalars import plain
from fastcnn.training.fit import fit
from fastcnn.training.history import History
from fastcnn.training.metrics import as_metrics
from fastcnn.training.monitors import EarlyStopping
from fastcnn.training.validation import needs_validation
from fastcnn.weights import not_finite

log = logging.getLogger("fastcnn.estimators")

#: Training steps targeted by ``epochs=None``, and the bounds of its epochs.
DEFAULT_STEPS, LEAST_EPOCHS, MOST_EPOCHS = 2_000, 10, 200


@dataclass(eq=False, repr=False, kw_only=True)
class NetworkEstimator(BaseEstimator):
    """Base of :class:`CNNClassifier` and :class:`CNNRegressor`, which document the parameters."""

    architecture: Any = field(default="auto", kw_only=False)
    input_shape: Any = None
    epochs: int | None = None
    batch_size: int = 64
    optimizer: Any = "adam"
    lr: float | None = None
    weight_decay: float = 0.0
    schedule: str = "constant"
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    tol: float = 1e-4
    backend: str | None = None
    threads: int | None = None
    random_state: Any = None
    verbose: int = 0
    augment: Any = None
    callbacks: Any = None
    ema_decay: float | None = None
    layout: str | None = None
    image_size: Any = None
    gray: bool | None = None
    loss: Any = None
    metrics: Any = None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    # -- fitting -----------------------------------------------------------------------------

    def _fit(self, x: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> Self:
        """Train a new network on checked arrays."""
        self._start(x, target)
        if not isinstance(self.callbacks, (tuple, list, NoneType)):
            raise ConfigurationError(
                f"callbacks must be a list of callbacks or None, got {self.callbacks!r}"
            )
        callbacks = list(self.callbacks or ())
        if as_flag(type(self).__name__, "early_stopping", self.early_stopping):
            callbacks.append(EarlyStopping("validation_loss", self.n_iter_no_change, self.tol))
        held = bool(as_metrics(self.metrics)) or any(map(needs_validation, callbacks))
        share = self.validation_fraction if held else 0
        self.history_: History = fit(
            self.model_,
            (self._as_samples(x), target, weight),
            validation=share,
            epochs=self._epochs(round((1 - share) * len(x))),
            augment=self.augment,
            ema_decay=self.ema_decay,
            batch_size=self.batch_size,
            optimizer=self._optimizer(),
            schedule=self.schedule,
            loss=self._loss(),
            metrics=self.metrics,
            backend=self.backend,
            seed=self._seed,
            threads=self._threads(),
            callbacks=callbacks,
            diagnose=bool(self.verbose),
            verbose=bool(self.verbose),
        )
        self.n_iter_ = len(self.history_.epochs)
        return self

    def _partial_fit(self, x: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> Self:
        """One pass over checked arrays, continuing from the last call."""
        if self.early_stopping:
            raise ConfigurationError("partial_fit does not support early_stopping=True")
        for name in ("augment", "callbacks", "ema_decay", "metrics"):
            if getattr(self, name):
                raise ConfigurationError(f"partial_fit does not support {name}: use fit")
        if not hasattr(self, "model_"):
            self._start(x, target)
        if not hasattr(self, "_progress"):
            self._progress: dict[str, Any] = {"step": 0, "passes": 0, "slots": {}}
        progress, optimizer = self._progress, self._optimizer()
        executor = make_executor(
            self.model_,
            loss=self._loss(),
            optimizer=optimizer,
            backend=self.backend,
            batch_size=self.batch_size,
            seed=self._seed,
            threads=self._threads(),
        )
        if progress["slots"]:
            try:
                executor.load_optimizer_state(progress["slots"])
            except CheckpointError:
                raise ConfigurationError(
                    f"partial_fit continues with the optimizer of its first call, and {optimizer} "
                    "has another state: use fit to begin again"
                ) from None
        executor.step = progress["step"]
        order = np.random.default_rng([self._seed, progress["passes"]]).permutation(len(x))
        rates = np.full(-(-len(x) // self.batch_size), float(optimizer.lr))
        before = self.model_.copy_state()
        samples = ArrayDataset(self._as_samples(x), target, weight)
        with workers(self._threads()), np.errstate(over="ignore", invalid="ignore"):
            losses = executor.train_steps(samples, order, rates).losses
        if not np.isfinite(losses).all():
            self.model_.load_state_dict(before)
            raise NonFiniteError(
                f"the loss became {losses[~np.isfinite(losses)][0]} at learning rate "
                f"{optimizer.lr:.3g}; the weights are those before this call"
            )
        slots = {key: value.copy() for key, value in executor.optimizer_state().items()}
        problem = not_finite(self.model_.state_dict() | slots)
        if problem is not None:
            self.model_.load_state_dict(before)
            raise NonFiniteError(
                f"{problem} became NaN or infinite at learning rate {optimizer.lr:.3g}; the "
                "weights are those before this call"
            )
        self._progress = {"step": executor.step, "passes": progress["passes"] + 1, "slots": slots}
        self.n_iter_ = getattr(self, "n_iter_", 0) + 1
        return self

    def _start(self, x: np.ndarray, target: np.ndarray) -> None:
        """Draw the random seed, measure the input, and make the network."""
        for name in ("batch_size", "n_iter_no_change"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise ConfigurationError(f"{name} must be an integer >= 1, got {value!r}")
        share = self.validation_fraction
        if not isinstance(share, (float, np.floating)) or not 0.0 < share < 1.0:
            raise ConfigurationError(
                f"validation_fraction must be a number above 0 and below 1, got {share!r}"
            )
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._sample_shape = x.shape[1:]
        self.input_shape_, self.input_layout_ = input_geometry(
            x.shape, self._given_shape(), self.layout
        )
        if self.input_layout_ == "NHWC" and (self.input_shape, self.layout) == (None, None):
            log.warning("X of shape %s: the channels are last", x.shape)
        outputs = self._outputs(target)
        self.model_: Model = build_network(
            self.architecture, self.input_shape_, outputs, len(x), self._seed
        )
        self.input_shape_ = sample_shape(self.model_, self.input_shape_, outputs)
        x = self._shaped(x)
        is_table = len(self.input_shape_) == 1 and x.dtype != np.float32
        self.model_.to(np.float64 if is_table else np.float32)
        self.model_.input_shape = self.input_shape_
        if self._is_image():
            self._of_bytes = x.dtype == np.uint8
            if self.model_.preprocessing == Preprocessing():
                self.model_.preprocessing = measure_normalisation(x)
            made = self.model_.preprocessing
            if self._pictures is not None:
                made = replace(made, pictures=self._pictures)
            self.model_.preprocessing = made.trained(x)
            scale, shift = self.model_.preprocessing.factors(self._of_bytes, x.shape[1])
            self.input_mean_ = (-shift / scale).reshape(-1, 1, 1)
            self.input_std_ = (1.0 / scale).reshape(-1, 1, 1)
        self.__dict__.pop("_progress", None)

    def _outputs(self, target: np.ndarray) -> int:
        raise NotImplementedError

    def _loss(self) -> Loss:
        raise NotImplementedError

    # -- predicting --------------------------------------------------------------------------

    def _logits(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        x = self._validated(X, reset=False)
        with workers(self._threads()):
            return predict_logits(
                self.model_, self._as_samples(x), backend=self.backend, threads=self._threads()
            )

    # -- checking and converting -------------------------------------------------------------

    def _validated(self, X: Any, y: Any = "no_validation", **options: Any) -> Any:
        """X (and y) as arrays, validated by scikit-learn's rules and with its messages."""
        for name, given in (("X", X), ("y", y)):
            if np.ma.is_masked(given):
                plain_array(name, given)
        X = self._read(X, options.get("reset", True))
        arrays = validate_data(
            self, X, y, **options, allow_nd=True, dtype=[np.float64, np.float32, np.uint8]
        )
        x = arrays[0] if isinstance(arrays, tuple) else arrays
        if x.ndim > 4:
            raise ShapeError(
                f"X must be (N, C, H, W), (N, H, W), (N, C, L) or (N, features), got {x.shape}"
            )
        return arrays

    def _read(self, X: Any, reset: bool) -> Any:
        """The pictures at the paths in X, read by the rule of the first fit; or X itself."""
        paths = as_paths(X)
        if paths is None:
            if reset and not (self.image_size is None and self.gray is None):
                raise ConfigurationError(
                    "image_size and gray are for X of paths of picture files, and X holds numbers"
                )
            if reset:
                self._pictures: Pictures | None = None
            return X
        if reset:
            shape = self._given_shape()
            reading = Reading(None, self.image_size, self.gray)
            if shape is not None:
                reading = Reading(Pictures(shape))  # type: ignore[arg-type]
            self._pictures = reading.rule(paths[0])
        if self._pictures is None:
            raise ShapeError("the estimator was fitted on arrays: give arrays, not paths")
        return read_pictures(paths, self._pictures, "X")

    def _without_zero_weights(
        self, x: np.ndarray, y: np.ndarray, sample_weight: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Drop samples of weight zero, as if they had not been given."""
        if sample_weight is None:
            return x, y, None
        weight = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        kept = weight > 0.0
        if not kept.any():
            raise ConfigurationError("sample weights must contain at least one non-zero number")
        return x[kept], y[kept], weight[kept]

    def _given_shape(self) -> tuple[int, ...] | None:
        """The parameter ``input_shape``, with a channel axis added if missing."""
        shape = self.input_shape
        if shape is None:
            return None
        whole = (
            isinstance(shape, (tuple, list)) or (isinstance(shape, np.ndarray) and shape.ndim)
        ) and all(isinstance(size, (int, np.integer)) and size > 0 for size in shape)
        if not whole or len(shape) not in (1, 2, 3):
            raise ConfigurationError(
                f"input_shape must be (C, H, W), (H, W), (C, L) or (features,), got {shape!r}"
            )
        sizes = tuple(int(size) for size in shape)
        return (1, *sizes) if len(sizes) == 2 else sizes

    def _shaped(self, x: np.ndarray) -> np.ndarray:
        if x.shape[1:] != self._sample_shape:
            raise ShapeError(
                f"samples have shape {x.shape[1:]}, not {self._sample_shape} as when the estimator "
                "was fitted"
            )
        if self.input_layout_ == "NHWC":
            return x.transpose(0, 3, 1, 2)
        return x.reshape(len(x), *self.input_shape_)

    def _is_image(self) -> bool:
        return len(self.input_shape_) == 3

    def _as_samples(self, x: np.ndarray) -> np.ndarray:
        """Samples in the form the model expects. Values are interpreted regardless of their type.

        The model itself normalises images; it recognises bytes by their type.
        """
        x = self._shaped(x)
        if not self._is_image():
            return np.ascontiguousarray(x, dtype=self.model_.dtype)
        if self._of_bytes and x.dtype != np.uint8:
            if len(x) > 1 and 0.0 < x.max() <= 1.0:
                log.warning(
                    "X lies in %.4g..%.4g, and the estimator was fitted on bytes of 0..255: is it "
                    "in other units?",
                    x.min(),
                    x.max(),
                )
            return x / x.dtype.type(255)
        if not self._of_bytes and x.dtype == np.uint8:
            return x.astype(np.float32)
        return x

    def _as_input(self, x: np.ndarray) -> np.ndarray:
        """Convert a user's samples to the first layer's input."""
        return self.model_.preprocessing.apply(self._as_samples(x), self.model_.dtype)

    def _epochs(self, samples: int) -> int:
        if self.epochs is not None:
            return self.epochs
        steps = -(-samples // self.batch_size)
        return min(max(-(-DEFAULT_STEPS // steps), LEAST_EPOCHS), MOST_EPOCHS)

    def _optimizer(self) -> Optimizer:
        # 0 is the estimator's default weight decay, which an optimiser object need not have.
        given = isinstance(self.optimizer, str) or self.weight_decay
        return as_optimizer(
            self.optimizer, lr=self.lr, weight_decay=self.weight_decay if given else None
        )

    def _threads(self) -> int | None:
        """One thread in a joblib worker, which has only one core."""
        from joblib.parallel import get_active_backend

        if self.threads is not None:
            return as_count(type(self).__name__, "threads", plain(self.threads), most=MOST_THREADS)
        backend, _ = get_active_backend()
        return 1 if getattr(backend, "nesting_level", None) else None


def as_paths(X: Any) -> list[Path] | None:
    """Paths of picture files, if X is a list, array, series or one-column frame of paths."""
    values = X
    if hasattr(X, "iloc"):  # a frame or a series of pandas
        if len(X.shape) == 2:
            if X.shape[1] != 1:
                return None
            X = X.iloc[:, 0]
        values = X.tolist()
    elif isinstance(X, np.ndarray):
        if X.dtype.kind not in "OU" or X.ndim > 2 or (X.ndim == 2 and X.shape[1] != 1):
            return None
        values = X.ravel().tolist()
    elif not isinstance(X, (list, tuple)):
        return None
    if not values or not all(isinstance(value, (str, os.PathLike)) for value in values):
        return None
    return [Path(value) for value in values]
