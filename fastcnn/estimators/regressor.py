"""A convolutional network as a scikit-learn regressor."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import column_or_1d

from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.estimators.base import NetworkEstimator
from fastcnn.losses import Loss, MSELoss, as_loss


@dataclass(eq=False, repr=False, kw_only=True)
class CNNRegressor(RegressorMixin, NetworkEstimator):
    """Regression on images, or on numeric tables, using a small neural network.

    Targets are standardised for training (with statistics from ``fit``, or the first
    ``partial_fit``), and predictions are transformed back.

    Parameters
    ----------
    architecture, input_shape, epochs, batch_size, optimizer, lr, weight_decay, schedule, \
early_stopping, validation_fraction, n_iter_no_change, tol, backend, threads, random_state, \
verbose, augment, callbacks, ema_decay, layout, image_size, gray
        As for :class:`CNNClassifier`.
    loss : str, Loss or callable, optional
        A regression loss, as for :func:`fastcnn.fit`, such as ``"huber"``, of standardised targets.
        By default the mean squared error.
    metrics : str or sequence, optional
        As for :class:`CNNClassifier`, of standardised targets: ``mae`` is in units of their
        standard deviation, ``target_std_``.

    Attributes
    ----------
    model_ : Model
        Predicts standardised targets.
    target_mean_, target_std_ : ndarray, shape (outputs,)
    history_ : History
        The records of ``fit``; ``partial_fit`` records nothing.
    n_iter_ : int
        Epochs of ``fit``, or calls of ``partial_fit``.
    n_features_in_ : int
        ``X.shape[1]``.
    input_shape_, input_layout_
        As for :class:`CNNClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from fastcnn.estimators import CNNRegressor
    >>> X, y = make_friedman1(500, random_state=0)
    >>> CNNRegressor(random_state=0).fit(X, y).score(X, y) > 0.9
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new network.

        Parameters
        ----------
        X : array_like, shape (N, C, H, W), (N, H, W, C), (N, H, W) or (N, features)
        y : array_like, shape (N,) or (N, outputs)
        sample_weight : array_like, shape (N,), optional
            Each batch's loss is ``sum(weight * loss) / sum(weight)``.

        Raises
        ------
        ValueError
            If data or parameters are invalid (all of fastcnn's errors of this kind are
            ValueErrors).
        """
        x, target, weight = self._checked(X, y, sample_weight, reset=True)
        self._measure(target, weight)
        return self._fit(x, self._standardised(target), weight)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one pass over these samples, continuing from the last call.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.
        """
        first = not hasattr(self, "target_mean_")
        x, target, weight = self._checked(X, y, sample_weight, reset=first)
        if first:
            self._measure(target, weight)
        if target.shape[1] != len(self.target_mean_):
            raise ShapeError(
                f"y has {target.shape[1]} outputs, {len(self.target_mean_)} at the first call"
            )
        return self._partial_fit(x, self._standardised(target), weight)

    def predict(self, X: Any) -> np.ndarray:
        """Predicted targets, shape (N,) or (N, outputs) as in ``fit``.

        Parameters
        ----------
        X : array_like
            As for :meth:`fit`.
        """
        values = self._logits(X) * self.target_std_ + self.target_mean_
        return values[:, 0] if self._flat_target else values

    def _checked(
        self, X: Any, y: Any, sample_weight: Any, reset: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        x, y = self._validated(X, y, reset=reset, multi_output=True, y_numeric=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if reset:
            self._flat_target = y.ndim == 1
        y = y.reshape(len(y), -1).astype(np.float64)  # text raises a ValueError
        return self._without_zero_weights(x, y, sample_weight)

    def _measure(self, target: np.ndarray, weight: np.ndarray | None) -> None:
        self.target_mean_ = np.average(target, axis=0, weights=weight)
        distance = target - self.target_mean_
        # Scaled by a power of two, which is exact: squares of 1e-200 or 1e200 under- or overflow.
        unit = np.ldexp(1.0, np.frexp(np.abs(distance).max(axis=0))[1] - 1)
        variance = np.average((distance / unit) ** 2, axis=0, weights=weight)
        # The variance of a constant target is only rounding error: dividing would amplify it.
        noise = np.finfo(np.float64).eps * np.abs(self.target_mean_)
        std = unit * np.sqrt(variance)
        self.target_std_ = np.where(std > 10.0 * noise, std, 1.0)

    def _standardised(self, target: np.ndarray) -> np.ndarray:
        return (target - self.target_mean_) / self.target_std_

    def _outputs(self, target: np.ndarray) -> int:
        return target.shape[1]

    def _loss(self) -> Loss:
        made = MSELoss() if self.loss is None else as_loss(self.loss)
        if made.classes:
            raise ConfigurationError(
                f"loss={self.loss!r} is a loss of classes: a regressor accepts mse, l1, huber, "
                "smooth_l1, or a function of outputs and targets"
            )
        return made
