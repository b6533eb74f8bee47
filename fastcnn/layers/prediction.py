"""What a model reads and predicts: preprocessing, outputs, probabilities, and what they mean."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fastcnn.arguments import plain_array
from fastcnn.backends.graph import Graph, Shape
from fastcnn.data.preprocessing import Preprocessing, measure_normalisation
from fastcnn.errors import ConfigurationError, DataError, NonFiniteError, ShapeError
from fastcnn.layers.packing import measured, pack_inputs, unpack
from fastcnn.layers.wiring import Value, apply

if TYPE_CHECKING:
    from fastcnn.layers.container import Model

#: What a model may predict, and the name under which files say so.
PREDICTIONS = (None, "classes", "values", "value", "labels", "label")
METADATA = "fastcnn.predicts"


class Answers:
    """The part of models and sessions that knows what is read and predicted, and reads outputs."""

    input_shape: Shape | None
    _preprocessing = Preprocessing()
    _predicts: str | None = None

    if TYPE_CHECKING:  # what is mixed with this class computes them

        def graph(self, input_shape: tuple[int, ...] | None = None) -> Graph: ...

        def logits(
            self, x: Any, *, backend: str | None = None, batch_size: int | None = None
        ) -> Any: ...

    @property
    def preprocessing(self) -> Preprocessing:
        """How samples become what the first layer reads."""
        return self._preprocessing

    @preprocessing.setter
    def preprocessing(self, value: Preprocessing) -> None:
        if not isinstance(value, Preprocessing):
            raise ConfigurationError(f"preprocessing must be a Preprocessing, got {value!r}")
        channels = value.channels
        if channels and self.input_shape is not None and channels != self.input_shape[0]:
            raise ConfigurationError(
                f"the preprocessing has {channels} channels, the model takes {self.input_shape}"
            )
        object.__setattr__(self, "_preprocessing", value)

    @property
    def predicts(self) -> str | None:
        """What :meth:`predict` gives."""
        return self._predicts

    @predicts.setter
    def predicts(self, value: str | None) -> None:
        parts = value.split(",") if isinstance(value, str) else [value]
        if any((part or None) not in PREDICTIONS for part in parts):
            raise ConfigurationError(
                f"predicts must be one of {PREDICTIONS}, or of several outputs one of them for "
                f"each, between commas, got {value!r}"
            )
        object.__setattr__(self, "_predicts", value)

    @property
    def predicts_classes(self) -> bool:
        """Whether outputs are to tell classes apart, as far as is known."""
        return self.predicts is None or "classes" in self.predicts.split(",")

    def metadata(self) -> dict[str, str]:
        """What files of the model's weights also hold: text by name."""
        return {**self.preprocessing.to_metadata(), METADATA: self.predicts or ""}

    def load_metadata(self, metadata: Mapping[str, str]) -> None:
        """Take up what the metadata of a file say; what they do not say stays as it is.

        Raises
        ------
        ConfigurationError
            If they are damaged, or do not fit the model; nothing is then changed.
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
        ends = ends_in(self.graph(), "softmax")
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


class Prediction(Answers):
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

    def normalise(self, x: Any) -> None:
        """Measure mean and deviation of each channel, and subtract and divide by them from now on.

        They become part of :attr:`preprocessing`, which training, files and ONNX exports keep.
        Each of several inputs has its own.

        Parameters
        ----------
        x : array_like, shape (N, ...)
            The training samples, as ``fit`` takes them.

        Raises
        ------
        ConfigurationError
            If the model is trained: its weights belong to the numbers that it read then.
        ShapeError, DataError
            If the samples do not fit the model.
        """
        model = cast("Model", self)
        if model.preprocessing.trained_on is not None:
            raise ConfigurationError(
                "normalise: the model is trained, and its weights belong to its preprocessing "
                f"({model.preprocessing.describe()})"
            )
        ports = model.graph().inputs if model.takes > 1 else ()
        samples = pack_inputs(ports, x) if ports else plain_array("samples", x)
        if samples.ndim < 2 or not len(samples):
            raise ShapeError(f"normalise: samples must be (N, ...), got {samples.shape}")
        Preprocessing().check(samples, "normalise: samples")  # whatever was measured before
        if not np.isfinite(samples).all():
            raise DataError("normalise: samples contain NaN or infinity")
        if model.input_shape not in (None, samples.shape[1:]):
            raise ShapeError(
                f"normalise: the model takes samples of shape {model.input_shape}, got "
                f"{samples.shape[1:]}"
            )
        found = measured(ports, samples) if ports else measure_normalisation(samples)
        model.preprocessing = replace(
            model.preprocessing, mean=found.mean, std=found.std, pixels=found.pixels
        )

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


#: Operations that change no number outside training.
KEEPING = ("flatten", "unflatten", "dropout", "dropout2d")


def ends_in(graph: Graph, operation: str) -> list[bool]:
    """Whether each output of a network is that of an operation, but for its shape."""
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
    """Refuse to tell classes by outputs that do not tell them."""
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
    finite = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
    if not finite.all():
        raise NonFiniteError(
            f"{method}: outputs of {np.count_nonzero(~finite):,} samples are NaN or infinite, "
            f"that of sample {finite.argmin()} first: they tell no class; look at the samples "
            "and the weights"
        )
