"""What a model can be asked: outputs, probabilities and predictions for samples."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fastcnn.backends.graph import Graph
from fastcnn.layers.meaning import Meaning, check_classes
from fastcnn.layers.packing import unpack
from fastcnn.layers.wiring import Value, apply

if TYPE_CHECKING:
    from fastcnn.layers.container import Model


class Prediction(Meaning):
    """The part of a model that runs it outside training."""

    def __call__(
        self,
        *inputs: Any,
        name: str | None = None,
        backend: str | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """The same as :meth:`logits`; of values of a graph, part of a larger network."""
        if inputs and isinstance(inputs[0], Value):
            return apply(cast("Model", self), inputs, name)
        x = inputs[0] if len(inputs) == 1 else inputs
        return self.logits(x, backend=backend, batch_size=batch_size)

    def logits(self, x: Any, *, backend: str | None = None, batch_size: int | None = None) -> Any:
        """Output of the last layer for samples ``x``, outside training.

        Parameters
        ----------
        x : array_like, shape (N, ...)
            As in training, bytes or floating-point: :attr:`preprocessing` is applied to them. A
            single sample without the batch dimension is not taken.
        backend : str, optional
        batch_size : int, optional
            Samples that are run at a time; bounds the memory, does not change the result.

        Returns
        -------
        ndarray, shape (N, ...)
            For a model of several outputs a dictionary with one for each name, as those of
            :meth:`predict` and :meth:`predict_proba`.

        Raises
        ------
        ConfigurationError
            If ``batch_size`` would change the result: batch normalisation without running
            statistics takes those of all samples.
        """
        from fastcnn.execution import predict_logits

        model = cast("Model", self)
        found = predict_logits(model, x, backend=backend, batch_size=batch_size)
        return found if model.gives == 1 else unpack(model.graph().outputs, found)

    def features(self, x: Any, layers: str | Sequence[str], *, backend: str | None = None) -> Any:
        """Outputs of layers for samples ``x``, outside training.

        Parameters
        ----------
        x : array_like, shape (N, ...)
        layers : str or sequence of str
            Names of layers as ``summary`` has them, or of models in the model.
        backend : str, optional

        Returns
        -------
        ndarray, shape (N, ...)
            Or a dictionary with one for each name, if several were asked for.

        Raises
        ------
        ConfigurationError
            If there is no such layer.
        """
        from fastcnn.execution.layer_outputs import layer_outputs

        return layer_outputs(cast("Model", self), x, layers, backend)

    def predict_proba(
        self, x: Any, *, backend: str | None = None, batch_size: int | None = None
    ) -> Any:
        """Class probabilities, shape (N, classes, ...): the softmax of :meth:`logits`.

        A model that was trained on labels gives the probability of each: the sigmoid.

        The outputs of a model that ends in :class:`~fastcnn.layers.Softmax` are such already.

        Raises
        ------
        ConfigurationError
            If the model was trained to predict values, or has one output.
        NonFiniteError
            If an output is NaN or infinite.
        """
        outputs = self.logits(x, backend=backend, batch_size=batch_size)
        ends = ends_in(cast("Model", self).graph(), "softmax")
        return self._each(_probabilities, outputs, ends)

    def predict(self, x: Any, *, backend: str | None = None, batch_size: int | None = None) -> Any:
        """Most probable class of each sample, or of each pixel of a map; int64, shape (N, ...).

        A model that was trained on values, such as by a mean squared error, gives its outputs: of
        shape (N,) where it was trained on one number a sample, else that of :meth:`logits`. One
        that was trained on labels gives 1 where a label is more probable than not, else 0.

        Raises
        ------
        ConfigurationError
            If the model has one output, and was not trained on values.
        NonFiniteError
            If an output that is to tell a class is NaN or infinite.
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


def ends_in(graph: Graph, operation: str) -> list[bool]:
    """Whether each output of a network is that of an operation, but for its shape."""
    last = len(graph.nodes) - 1
    found = []
    for index in graph.nodes[last].inputs if graph.outputs else (last,):
        while index >= 0 and graph.nodes[index].operation == "flatten":
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
