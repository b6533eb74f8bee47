"""A convolutional network as a scikit-learn classifier."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, is_multilabel
from sklearn.utils.validation import check_is_fitted, column_or_1d

from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.estimators.base import NetworkEstimator
from fastcnn.functional import sigmoid, softmax
from fastcnn.layers.answers import ends_in
from fastcnn.losses import BCEWithLogitsLoss, CrossEntropyLoss, Loss, PythonLoss, as_loss


@dataclass(eq=False, repr=False, kw_only=True)
class CNNClassifier(ClassifierMixin, NetworkEstimator):
    """Classifier of images, or of numeric tables, using a small neural network.

    For multi-label classification, ``y`` is a matrix of 0 and 1 with a column per label.

    Parameters
    ----------
    architecture : str, Model, or callable
        ``"auto"``: for images :func:`fastcnn.models.auto_cnn`, as with
        ``fastcnn train --model auto``; for tables ``"mlp"``, one hidden layer of 100 units.
        ``"cnn"``: two convolutions and two linear layers. Or a name in
        :data:`fastcnn.models.MODELS`. A model is copied, and training starts from its weights. A
        callable receives ``(input_shape, outputs, seed)`` and returns a model.
    input_shape : tuple of int, optional
        ``(C, H, W)`` or ``(H, W)`` of the images in X, or ``(features,)`` for a table. By default X
        of shape (N, C, H, W), (N, H, W, C) or (N, H, W) holds images, and (N, features) a table,
        unless ``features`` is a square of at least 8 x 8: then it holds images of one channel. The
        position of the channels is inferred from the shape (1 to 4 channels, or else square images)
        and recorded in ``input_layout_``; an ambiguous shape is refused. A network that takes
        sequences, not images, gets X of shape (N, C, L), or ``(C, L)``. Images are normalised by
        the mean and deviation of each channel measured in ``fit``, by the model itself
        (``model_.preprocessing``); other samples are used unchanged (scale them, for example with
        StandardScaler).
    epochs : int, optional
        By default enough for 2,000 steps, at least 10 and at most 200.
    batch_size : int
    optimizer : str or Optimizer
        As for :func:`fastcnn.optim.as_optimizer`.
    lr : float, optional
        By default 0.001, and 0.02 for ``"sgd"`` (which has momentum 0.9).
    weight_decay : float
    schedule : {"constant", "step", "cosine", "one-cycle", "triangular"}
        Not used by ``partial_fit``.
    class_weight : dict, "balanced" or None
        Multiplies the weights of samples; for several labels those of each, as in
        ``OneVsRestClassifier``, given as a list with a dictionary of 0 and 1 per label.
    label_smoothing : float
    early_stopping : bool
        Hold out ``validation_fraction`` of the samples, stop when their loss has not improved by
        ``tol`` for ``n_iter_no_change`` epochs, and keep the best weights.
    validation_fraction : float
    n_iter_no_change : int
    tol : float
    backend : str, optional
    threads : int, optional
        By default all cores, or one in a joblib worker (``GridSearchCV(n_jobs=2)``).
    random_state : int, RandomState or None
        Seed of initial weights, the order of samples, dropout and the validation split.
    verbose : int
        1 shows the progress of ``fit`` and reports training problems, such as dead units; 0 is
        silent.
    augment : str or Augment, optional
        Random augmentation of training images, as for :func:`fastcnn.fit`. ``partial_fit`` does not
        support it, nor ``callbacks`` and ``ema_decay``.
    callbacks : list of Callback, optional
        Called by ``fit``. If one monitors validation data, ``validation_fraction`` of the samples
        is held out.
    ema_decay : float, optional
        Use a moving average of the weights, with this decay per step.
    layout : {"NCHW", "NHWC"}, optional
        Position of the channels of four-dimensional X, instead of inferring it from its shape.
    loss : str, Loss or callable, optional
        A classification loss, as for :func:`fastcnn.fit`: ``"focal"``,
        ``CrossEntropyLoss(weight=...)``, or a function of logits and classes. By default
        cross-entropy. For several labels ``BCEWithLogitsLoss``, or ``"sigmoid_focal"``.
    metrics : str or list of str or callable, optional
        As for :func:`fastcnn.fit`, computed on a held-out ``validation_fraction`` of the samples
        and recorded in ``history_``. Not used by ``partial_fit``.
    image_size, gray : optional
        X may contain paths of picture files: a list, an array, or a pandas Series or one-column
        DataFrame. They are resized to ``image_size`` (a number, or height and width), by default
        that of the first or of ``input_shape``, and read in grey or colour.

    Attributes
    ----------
    classes_ : ndarray
        The column indices, if samples have several labels.
    model_ : Model
    history_ : History
        The records of ``fit``; ``partial_fit`` records nothing.
    n_iter_ : int
        Epochs of ``fit``, or calls of ``partial_fit``.
    n_features_in_ : int
        ``X.shape[1]``.
    input_shape_ : tuple of int
        Shape of one sample, channels first.
    input_layout_ : {"NCHW", "NHWC"} or None
        Position of the channels of four-dimensional X.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import cross_val_score
    >>> from fastcnn.estimators import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> scores = cross_val_score(CNNClassifier(epochs=20, random_state=0), X, y, cv=3)
    >>> bool(scores.mean() > 0.9)
    True
    """

    class_weight: Any = None
    label_smoothing: float = 0.0

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new network.

        Parameters
        ----------
        X : array_like, shape (N, C, H, W), (N, H, W, C), (N, H, W) or (N, features)
        y : array_like, shape (N,), or (N, labels) of 0 and 1
            Classes, as numbers or text; or whether each sample has each label.
        sample_weight : array_like, shape (N,), optional
            Each batch's loss is ``sum(weight * loss) / sum(weight)``.

        Raises
        ------
        ValueError
            If data or parameters are invalid (all of fastcnn's errors of this kind are
            ValueErrors).
        """
        x, y = self._checked(X, y, reset=True)
        x, y, weight = self._without_zero_weights(x, y, sample_weight)
        if self._has_labels:
            self.classes_ = np.arange(y.shape[1])
            return self._fit(x, self._smooth(y), self._with_label_weight(y, weight))
        known, target = np.unique(y, return_inverse=True)
        self.classes_ = _at_least_two(known)
        weight = self._with_class_weight(y, weight)
        x, target, weight = self._without_zero_weights(x, target, weight)
        return self._fit(x, target.astype(np.int64), weight)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one pass over these samples, continuing from the last call.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.
        classes : array_like
            All classes that will ever occur; only needed at the first call. If samples have several
            labels, the column indices.
        """
        first = not hasattr(self, "classes_")
        x, y = self._checked(X, y, reset=first)
        if first and classes is None:
            raise ConfigurationError("classes must be passed on the first call to partial_fit")
        known = np.unique(classes) if classes is not None else self.classes_
        if not first and not np.array_equal(known, self.classes_):
            raise ConfigurationError(f"classes are {self.classes_} since the first call")
        if self.class_weight == "balanced":
            raise ConfigurationError(
                "class_weight='balanced' needs all samples at once: give partial_fit a dict"
            )
        if self._has_labels:
            if y.shape[1] != len(known):
                raise DataError(f"y has {y.shape[1]} labels, there are {len(known)}: {known}")
            x, y, weight = self._without_zero_weights(x, y, sample_weight)
            self.classes_ = known
            return self._partial_fit(x, self._smooth(y), self._with_label_weight(y, weight))
        unknown = np.setdiff1d(y, _at_least_two(known))
        if len(unknown):
            raise DataError(f"y holds {unknown}, not among the classes {known}")
        x, y, weight = self._without_zero_weights(x, y, sample_weight)
        self.classes_ = known
        weight = self._with_class_weight(y, weight)
        x, y, weight = self._without_zero_weights(x, y, weight)
        return self._partial_fit(x, np.searchsorted(known, y), weight)

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits, shape (N, classes); for two classes their difference, shape (N,).

        Parameters
        ----------
        X : array_like
            As for :meth:`fit`.
        """
        logits = self._logits(X)
        if len(self.classes_) == 2 and not self._has_labels:
            return logits[:, 1] - logits[:, 0]
        return logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class or label, shape (N, classes), in the order of ``classes_``.

        Parameters
        ----------
        X : array_like
            As for :meth:`fit`.
        """
        logits = self._logits(X)
        if self._has_labels:
            return sigmoid(logits)
        return logits if ends_in(self.model_.graph(), "softmax")[0] else softmax(logits)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each sample, shape (N,); or its labels, (N, labels).

        Parameters
        ----------
        X : array_like
            As for :meth:`fit`.
        """
        check_is_fitted(self)
        if self._has_labels:
            return (self._logits(X) > 0.0).astype(np.int64)
        return self.classes_[self._logits(X).argmax(axis=1)]

    def _checked(self, X: Any, y: Any, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        """X, and y as classes of shape (N,) or labels of shape (N, labels)."""
        has_labels = bool(is_multilabel(y))
        if reset:
            self._has_labels = has_labels
        elif has_labels != self._has_labels:
            kinds = ("a class", "labels")
            raise ShapeError(
                f"y has {kinds[has_labels]} for each sample, and {kinds[not has_labels]} at the "
                "first call"
            )
        if not has_labels:
            x, y = self._validated(X, y, reset=reset)
            check_classification_targets(y)
            return x, column_or_1d(y, warn=True)
        x, y = self._validated(X, y, reset=reset, multi_output=True)
        y = y.toarray() if hasattr(y, "toarray") else y
        if not np.isin(y, (0, 1)).all():
            raise DataError(f"labels must be 0 or 1, got {np.unique(y)}")
        return x, y.astype(np.int64)

    def _smooth(self, labels: np.ndarray) -> np.ndarray:
        """Smoothed label targets, as floating-point values."""
        share = 0.0 if self.loss is not None else CrossEntropyLoss(self.label_smoothing).numbers[0]
        return labels * (1.0 - share) + share / 2.0

    def _with_label_weight(self, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        """A weight for each label of each sample, if there are class weights."""
        if self.class_weight is None:
            return weight
        given = self.class_weight
        each = given if isinstance(given, (list, tuple)) else [given] * y.shape[1]
        if len(each) != y.shape[1]:
            raise ConfigurationError(f"class_weight has {len(each)} entries, y {y.shape[1]} labels")
        columns = []
        for own, label in zip(each, y.T, strict=True):
            if isinstance(own, str) and own == "balanced":
                counts = np.bincount(label, weights=weight, minlength=2)
                columns.append(counts.sum() / (2.0 * np.maximum(counts, 1e-300))[label])
                continue
            own = {} if own is None else own
            if not isinstance(own, Mapping) or not set(own) <= {0, 1}:
                raise ConfigurationError(
                    "class_weight of labels must be 'balanced' or a dictionary of 0 and 1, or a "
                    f"list of these, got {own!r}"
                )
            columns.append(np.array([own.get(0, 1.0), own.get(1, 1.0)])[label])
        weights = np.stack(columns, axis=1)
        return weights if weight is None else weights * weight[:, None]

    def _with_class_weight(self, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        if self.class_weight is None:
            return weight
        if not isinstance(self.class_weight, str) or self.class_weight != "balanced":
            try:
                own = compute_sample_weight(self.class_weight, y)
            except (TypeError, ValueError) as error:
                raise ConfigurationError(
                    "class_weight must be 'balanced' or a dictionary of numbers by class, got "
                    f"{self.class_weight!r} ({error})"
                ) from None
        else:
            _, index = np.unique(y, return_inverse=True)
            counts = np.bincount(index, weights=weight)
            own = (counts.sum() / (len(counts) * counts))[index]
        return own if weight is None else own * weight

    def _outputs(self, target: np.ndarray) -> int:
        return len(self.classes_)

    def _loss(self) -> Loss:
        if self.loss is None and self._has_labels:
            return BCEWithLogitsLoss()
        if self.loss is None:
            return CrossEntropyLoss(self.label_smoothing)
        if self.label_smoothing:
            raise ConfigurationError(
                f"label_smoothing={self.label_smoothing} has no effect with loss={self.loss!r}: "
                "give it to the loss"
            )
        made = as_loss(self.loss)
        if self._has_labels:
            labels = np.zeros((1, len(self.classes_)))
            if (
                not isinstance(made, PythonLoss)
                and made.predicts(labels, labels[0].shape) != "labels"
            ):
                raise ConfigurationError(
                    f"loss={self.loss!r} is not a loss of labels: y has several, which need "
                    "bce_with_logits, sigmoid_focal, or a function of logits and labels"
                )
            return made
        if not made.classes and not isinstance(made, PythonLoss):
            raise ConfigurationError(
                f"loss={self.loss!r} is not a loss of classes: a classifier accepts cross_entropy, "
                "nll, focal, or a function of logits and classes"
            )
        return made


def _at_least_two(classes: np.ndarray) -> np.ndarray:
    if len(classes) < 2:
        found = f"only one class, {classes.tolist()[0]!r}" if len(classes) else "none"
        raise DataError(f"a classifier needs at least two classes, got {found}")
    return classes
