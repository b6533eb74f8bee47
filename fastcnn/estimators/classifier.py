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
    """Classifier of images, or of tables of numbers, by a small neural network.

    Samples may have several labels: ``y`` is then a matrix of 0 and 1 with a column for each.

    Parameters
    ----------
    architecture : str, Model, or callable
        ``"auto"``: for images :func:`fastcnn.models.auto_cnn`, as ``fastcnn train --model auto``;
        for tables one hidden layer of 100 units, which is ``"mlp"``. ``"cnn"``: two convolutions
        and two linear layers. Or a name of :data:`fastcnn.models.MODELS`.
        A model is copied and its own weights are the start. A callable gets
        ``(input_shape, outputs, seed)`` and returns a model.
    input_shape : tuple of int, optional
        ``(C, H, W)`` or ``(H, W)`` of the images in X, or ``(features,)`` for a table. By default
        X of shape (N, C, H, W), (N, H, W, C) or (N, H, W) holds images, and (N, features) a table,
        unless ``features`` is a square of at least 8 x 8: then it is images of one channel. Where
        the channels are is told by the shape (1 to 4 of them; else images are square) and recorded
        in ``input_layout_``; a shape that may be either is refused. Images are normalised by the
        mean and deviation of each channel at ``fit``, by the model itself
        (``model_.preprocessing``); tables are taken as they are (scale them, with a StandardScaler
        say).
    epochs : int, optional
        By default as many as make 2,000 steps, at least 10 and at most 200.
    batch_size : int
    optimizer : str or Optimizer
        A name that :func:`fastcnn.optim.as_optimizer` knows.
    lr : float, optional
        By default 0.001, and 0.02 for ``"sgd"`` (which has momentum 0.9).
    weight_decay : float
    schedule : {"constant", "step", "cosine", "one-cycle"}
        Not used by ``partial_fit``.
    class_weight : dict, "balanced" or None
        Multiplies the weights of samples; of labels those of each one, as ``OneVsRestClassifier``
        would, where a list has a dictionary of 0 and 1 for each.
    label_smoothing : float
    early_stopping : bool
        Hold out ``validation_fraction`` of the samples, stop when their loss has not improved by
        ``tol`` for ``n_iter_no_change`` epochs, and keep the best weights.
    validation_fraction : float
    n_iter_no_change : int
    tol : float
    backend : str, optional
    threads : int, optional
        By default all cores, and one in a worker of joblib (``GridSearchCV(n_jobs=2)``).
    random_state : int, RandomState or None
        Decides initial weights, the order of samples, dropout and the validation split.
    verbose : int
        1 shows the progress of ``fit`` and says what looks wrong with the training, such as dead
        units; 0 does neither.
    augment : str or Augment, optional
        Changes training images at random, as for :func:`fastcnn.fit`. Not used by ``partial_fit``,
        which refuses it, ``callbacks`` and ``ema_decay``.
    callbacks : list of Callback, optional
        Called by ``fit``. Where one monitors validation data, ``validation_fraction`` of the
        samples is held out.
    ema_decay : float, optional
        The network gets a moving average of its weights.
    layout : {"NCHW", "NHWC"}, optional
        Where four-dimensional X has its channels, instead of what its shape tells.
    loss : str, Loss or callable, optional
        One of classes, as for :func:`fastcnn.fit`: ``"focal"``, ``CrossEntropyLoss(weight=...)``,
        or a function of logits and classes. By default cross-entropy. For several labels
        ``BCEWithLogitsLoss``, or ``"sigmoid_focal"``.
    metrics : str or list of str or callable, optional
        As for :func:`fastcnn.fit`, of ``validation_fraction`` of the samples, which are held out
        for them; ``history_`` has them. Not used by ``partial_fit``.
    image_size, gray : optional
        X may be paths of picture files: a list, an array, or a Series or a frame of one column of
        pandas. They are stretched to ``image_size`` (a number, or height and width), by default
        that of the first or of ``input_shape``, and read as grey or colour.

    Attributes
    ----------
    classes_ : ndarray
        The numbers of their columns, where samples have several labels.
    model_ : Model
    history_ : History
        What ``fit`` recorded; ``partial_fit`` records nothing.
    n_iter_ : int
        Epochs of ``fit``, or calls of ``partial_fit``.
    n_features_in_ : int
        ``X.shape[1]``.
    input_shape_ : tuple of int
        Shape of one sample, channels first.
    input_layout_ : {"NCHW", "NHWC"} or None
        Where four-dimensional X has its channels.

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
            Classes: numbers or text. Or whether each sample has each label.
        sample_weight : array_like, shape (N,), optional
            Each batch's loss is ``sum(weight * loss) / sum(weight)``.

        Raises
        ------
        ValueError
            If data or parameters do not fit (all of fastcnn's errors of this kind are ValueErrors).
        """
        x, y = self._checked(X, y, reset=True)
        x, y, weight = self._without_zero_weights(x, y, sample_weight)
        if self._has_labels:
            self.classes_ = np.arange(y.shape[1])
            return self._fit(x, self._smooth(y), self._with_label_weight(y, weight))
        self.classes_, target = np.unique(y, return_inverse=True)
        weight = self._with_class_weight(y, weight)
        x, target, weight = self._without_zero_weights(x, target, weight)
        return self._fit(x, target.astype(np.int64), weight)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one pass over these samples, from where the last call ended.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.
        classes : array_like
            All classes that will ever come; needed at the first call alone. Where samples have
            several labels, the numbers of their columns.
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
        unknown = np.setdiff1d(y, known)
        if len(unknown):
            raise DataError(f"y holds {unknown}, which is none of the classes {known}")
        x, y, weight = self._without_zero_weights(x, y, sample_weight)
        self.classes_ = known
        weight = self._with_class_weight(y, weight)
        x, y, weight = self._without_zero_weights(x, y, weight)
        return self._partial_fit(x, np.searchsorted(known, y), weight)

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits, shape (N, classes); for two classes their difference, shape (N,)."""
        logits = self._logits(X)
        if len(self.classes_) == 2 and not self._has_labels:
            return logits[:, 1] - logits[:, 0]
        return logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class or label, shape (N, classes), in the order of ``classes_``."""
        logits = self._logits(X)
        if self._has_labels:
            return sigmoid(logits)
        return logits if ends_in(self.model_.graph(), "softmax")[0] else softmax(logits)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each sample, shape (N,); or its labels, (N, labels)."""
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
        """Targets of labels, as floating-point numbers."""
        share = 0.0 if self.loss is not None else CrossEntropyLoss(self.label_smoothing).numbers[0]
        return labels * (1.0 - share) + share / 2.0

    def _with_label_weight(self, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        """A weight for each label of each sample, where classes have some."""
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
            own = (1.0 / np.bincount(index, weights=weight))[index]
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
                    f"loss={self.loss!r} is not one of labels: y has several, and takes "
                    "bce_with_logits, sigmoid_focal, or a function of logits and labels"
                )
            return made
        if not made.classes and not isinstance(made, PythonLoss):
            raise ConfigurationError(
                f"loss={self.loss!r} is not one of classes: a classifier takes cross_entropy, nll, "
                "focal, or a function of logits and classes"
            )
        return made
