"""Features from a layer of a network, for other estimators."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from fastcnn.errors import ConfigurationError
from fastcnn.estimators.base import NetworkEstimator
from fastcnn.estimators.classifier import CNNClassifier
from fastcnn.execution.layer_outputs import layer_outputs, layer_place
from fastcnn.layers import Model


class CNNTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The output of one layer of a network, as features for other estimators.

    Parameters
    ----------
    estimator : CNNClassifier, CNNRegressor, Model, or None
        An estimator is cloned, and trained by ``fit``; None is ``CNNClassifier()``. A trained model
        is used unchanged: ``fit`` trains nothing and needs no y.
    layer : str, optional
        Name of the layer, as in ``model.summary()``; by default the one before the last.

    Attributes
    ----------
    model_ : Model
    layer_ : str
    estimator_ : CNNClassifier or CNNRegressor
        The trained estimator, if one was trained.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from fastcnn.estimators import CNNClassifier, CNNTransformer
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = CNNClassifier(epochs=5, random_state=0)
    >>> chain = make_pipeline(CNNTransformer(classifier), LogisticRegression(max_iter=500))
    >>> chain.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]) > 0.8
    True
    """

    def __init__(self, estimator: Any = None, *, layer: str | None = None) -> None:
        self.estimator = estimator
        self.layer = layer

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.required = not isinstance(self.estimator, Model)
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the estimator, unless it is a model.

        Parameters
        ----------
        X : array_like
            As for :class:`CNNClassifier`; for a model, samples in the form it expects.
        y : array_like, shape (N,)

        Raises
        ------
        ConfigurationError
            If ``estimator`` is something else, or there is no such layer.
        """
        if isinstance(self.estimator, Model):
            self.model_ = self.estimator
            graph = self.model_.graph(np.shape(X)[1:])
        else:
            estimator = CNNClassifier() if self.estimator is None else self.estimator
            if not isinstance(estimator, NetworkEstimator):
                raise ConfigurationError(
                    "CNNTransformer: estimator must be a CNNClassifier, a CNNRegressor or a Model, "
                    f"got {self.estimator!r}"
                )
            self.estimator_ = clone(estimator).fit(X, y)
            self.model_ = self.estimator_.model_
            graph = self.model_.graph()
            self.n_features_in_ = self.estimator_.n_features_in_
            if hasattr(self.estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.estimator_.feature_names_in_
        names = [node.name for node in graph.nodes]
        if self.layer is not None and self.layer not in names:
            raise ConfigurationError(
                f"CNNTransformer: no layer named {self.layer!r}: there are {', '.join(names)}"
            )
        if self.layer is None and len(names) < 2:
            raise ConfigurationError("CNNTransformer: the network has no layer before the last")
        self.layer_ = names[-2] if self.layer is None else self.layer
        node = graph.nodes[layer_place(graph, self.layer_)]
        self._n_features_out = int(np.prod(node.output_shape))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The layer's output for each sample, shape (N, features).

        Parameters
        ----------
        X : array_like
            As for :meth:`fit`.
        """
        check_is_fitted(self)
        samples, options = X, {}
        if hasattr(self, "estimator_"):
            own = self.estimator_
            samples = own._as_samples(own._validated(X, reset=False))
            options = {"backend": own.backend, "threads": own._threads()}
        found = layer_outputs(self.model_, samples, self.layer_, **options)
        return found.reshape(len(found), -1)
