"""The part of a model that runs it outside training."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fastcnn.arguments import plain_array
from fastcnn.data.preprocessing import Preprocessing, measure_normalisation
from fastcnn.errors import ConfigurationError, DataError, ShapeError
from fastcnn.layers.answers import Answers
from fastcnn.layers.packing import measured, pack_inputs, unpack
from fastcnn.layers.wiring import Value, apply

if TYPE_CHECKING:
    from fastcnn.layers.container import Model


class Prediction(Answers):
    """The part of a model that runs it outside training."""

    def __call__(
        self,
        *inputs: Any,
        name: str | None = None,
        backend: str | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """Same as :meth:`logits`; on symbolic values, use the model as a layer of a network."""
        if inputs and isinstance(inputs[0], Value):
            return apply(cast("Model", self), inputs, name)
        x = inputs[0] if len(inputs) == 1 else inputs
        return self.logits(x, backend=backend, batch_size=batch_size)

    def normalise(self, x: Any) -> None:
        """Measure the mean and deviation of each channel, and normalise inputs by them from now on.

        They become part of :attr:`preprocessing`, which is kept by training, files and ONNX
        exports. Each of several inputs has its own.

        Parameters
        ----------
        x : array_like, shape (N, ...)
            The training samples, as for ``fit``.

        Raises
        ------
        ConfigurationError
            If the model is already trained: its weights depend on its preprocessing.
        ShapeError, DataError
            If the samples do not match the model.
        """
        model = cast("Model", self)
        if model.preprocessing.trained_on is not None:
            raise ConfigurationError(
                "normalise: the model is trained, and its weights depend on its preprocessing "
                f"({model.preprocessing.describe()})"
            )
        ports = model.graph().inputs if model.takes > 1 else ()
        samples = pack_inputs(ports, x) if ports else plain_array("samples", x)
        if samples.ndim < 2 or not len(samples):
            raise ShapeError(f"normalise: samples must be (N, ...), got {samples.shape}")
        Preprocessing().check(samples, "normalise: samples")  # regardless of earlier measurements
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
            single sample needs a batch dimension too.
        backend : str, optional
        batch_size : int, optional
            Number of samples to run at a time; limits memory use without changing the result.

        Returns
        -------
        ndarray, shape (N, ...)
            For a model with several outputs a dictionary of arrays by name, as for :meth:`predict`
            and :meth:`predict_proba`.

        Raises
        ------
        ConfigurationError
            If ``batch_size`` would change the result: batch normalisation without running
            statistics uses those of all samples.
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
            Names of layers as in ``summary``, or of nested models.
        backend : str, optional

        Returns
        -------
        ndarray, shape (N, ...)
            Or a dictionary of arrays by name, if several were requested.

        Raises
        ------
        ConfigurationError
            If there is no such layer.
        """
        from fastcnn.execution.layer_outputs import layer_outputs

        return layer_outputs(cast("Model", self), x, layers, backend)
