"""Preprocessing of a model's input, and interpretation of its outputs."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backends.graph import Graph, Shape
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import ConfigurationError, NonFiniteError, counted

#: Kinds of predictions of a model, and their key in files.
PREDICTIONS = (None, "classes", "values", "value", "labels", "label")
METADATA = "fastcnn.predicts"


class Answers:
    """The part of models and sessions that handles preprocessing and interprets outputs."""

    input_shape: Shape | None
    _preprocessing = Preprocessing()
    _predicts: str | None = None

    if TYPE_CHECKING:  # provided by the classes that use this mixin

        def graph(self, input_shape: tuple[int, ...] | None = None) -> Graph: ...

        def logits(
            self, x: Any, *, backend: str | None = None, batch_size: int | None = None
        ) -> Any: ...

    @property
    def preprocessing(self) -> Preprocessing:
        """The conversion of samples to the first layer's input."""
        return self._preprocessing

    @preprocessing.setter
    def preprocessing(self, value: Preprocessing) -> None:
        if not isinstance(value, Preprocessing):
            raise ConfigurationError(f"preprocessing must be a Preprocessing, got {value!r}")
        channels = value.channels
        if channels and self.input_shape is not None and channels != self.input_shape[0]:
            raise ConfigurationError(
                f"the preprocessing has {counted(channels, 'channel')}, the model takes "
                f"{self.input_shape}"
            )
        object.__setattr__(self, "_preprocessing", value)

    @property
    def predicts(self) -> str | None:
        """The kind of predictions returned by :meth:`predict`."""
        return self._predicts

    @predicts.setter
    def predicts(self, value: str | None) -> None:
        parts = value.split(",") if isinstance(value, str) else [value]
        if any((part or None) not in PREDICTIONS for part in parts):
            raise ConfigurationError(
                f"predicts must be one of {PREDICTIONS}, or for several outputs one of them for "
                f"each, separated by commas, got {value!r}"
            )
        object.__setattr__(self, "_predicts", value)

    @property
    def predicts_classes(self) -> bool:
        """Whether outputs are class scores, as far as is known."""
        return self.predicts is None or "classes" in self.predicts.split(",")

    def metadata(self) -> dict[str, str]:
        """Metadata of the model's weights files: text by name."""
        return {**self.preprocessing.to_metadata(), METADATA: self.predicts or ""}

    def load_metadata(self, metadata: Mapping[str, str]) -> None:
        """Apply the metadata of a file; what they do not contain stays unchanged.

        Raises
        ------
        ConfigurationError
            If they are damaged, or do not match the model; nothing is then changed.
        """
        before, found = self.preprocessing, Preprocessing.from_metadata(metadata)
        self.preprocessing = before if found is None else found
        try:
            self.predicts = metadata.get(METADATA, self.predicts) or None
        except ConfigurationError:
            self.preprocessing = before
            raise

    def predict_proba(
        self, x: Any, *, backend: str | None = None, batch_size: int | None = None
    ) -> Any:
        """Class probabilities, shape (N, classes, ...): the softmax of :meth:`logits`.

        For a model trained on labels, the probability of each label: the sigmoid of its logit.

        The outputs of a model that ends in :class:`~fastcnn.layers.Softmax` are returned unchanged.

        Raises
        ------
        ConfigurationError
            If the model was trained to predict values, or has one output.
        NonFiniteError
            If an output is NaN or infinite.
        """
        outputs = self.logits(x, backend=backend, batch_size=batch_size)
        ends = ends_in(self.graph(), "softmax")
        return self._each(_probabilities, outputs, ends)

    def predict(self, x: Any, *, backend: str | None = None, batch_size: int | None = None) -> Any:
        """Most probable class of each sample, or of each pixel of a map; int64, shape (N, ...).

        For a model trained on values, such as with a mean squared error, the outputs: of shape (N,)
        if it was trained on one number per sample, otherwise that of :meth:`logits`. For a model
        trained on labels, 1 for each label with a probability above 0.5, otherwise 0.

        Raises
        ------
        ConfigurationError
            If the model has one output, and was not trained on values.
        NonFiniteError
            If a class score is NaN or infinite.
        """
        outputs = self.logits(x, backend=backend, batch_size=batch_size)
        return self._each(_predictions, outputs, [False] * max(1, len(outputs)))

    def _each(
        self,
        function: Callable[[str | None, np.ndarray, bool], Any],
        outputs: Any,
        ends: list[bool],
    ) -> Any:
        """A function of what is predicted, the output and how it ends, or of each of several."""
        if not isinstance(outputs, dict):
            return function(self.predicts, outputs, ends[0])
        kinds = (self.predicts or "," * (len(outputs) - 1)).split(",")
        return {
            name: function(kind or None, output, end)
            for kind, (name, output), end in zip(kinds, outputs.items(), ends, strict=False)
        }


#: Operations that leave values unchanged outside training.
KEEPING = ("flatten", "unflatten", "dropout", "dropout2d")


def ends_in(graph: Graph, operation: str) -> list[bool]:
    """Whether each output of a network is that of an operation, up to reshaping."""
    last = len(graph.nodes) - 1
    found = []
    for index in graph.nodes[last].inputs if graph.outputs else (last,):
        while index >= 0 and graph.nodes[index].operation in KEEPING:
            index = graph.nodes[index].inputs[0]
        found.append(index >= 0 and graph.nodes[index].operation == operation)
    return found


def _probabilities(predicts: str | None, logits: np.ndarray, are_such: bool) -> np.ndarray:
    if predicts in ("labels", "label"):
        labels: np.ndarray = np.exp(-np.logaddexp(0.0, -logits))
        return labels if predicts == "labels" else labels[:, 0]
    check_classes("predict_proba", predicts, logits)
    if are_such:
        return logits
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _predictions(predicts: str | None, outputs: np.ndarray, _: bool) -> np.ndarray:
    if predicts in ("labels", "label"):
        labels = (outputs > 0.0).astype(np.int64)
        return labels if predicts == "labels" else labels[:, 0]
    if predicts == "values":
        return outputs
    if predicts == "value":
        return outputs[:, 0]
    check_classes("predict", predicts, outputs)
    return outputs.argmax(axis=1)


def check_classes(method: str, predicts: str | None, outputs: np.ndarray) -> None:
    """Refuse outputs that are not valid class scores."""
    if predicts not in (None, "classes"):
        raise ConfigurationError(
            f"{method}: the model was trained on {predicts.removesuffix('s')}s, not "
            "on classes: use predict"
        )
    if outputs.shape[1] == 1:
        raise ConfigurationError(
            f"{method}: one output cannot tell classes apart: use logits, or give the network "
            "an output for each class"
        )
    finite = np.isfinite(outputs).all(axis=tuple(range(1, outputs.ndim)))
    if not finite.all():
        raise NonFiniteError(
            f"{method}: NaN or infinity in outputs of {counted(int((~finite).sum()), 'sample')}, "
            f"first that of sample {finite.argmin()}: check the samples and the weights"
        )
