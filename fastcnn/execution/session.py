"""``fastcnn.session``: a model prepared once, for many inference calls from any thread."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.arguments import as_count
from fastcnn.backends.graph import Graph
from fastcnn.errors import ConfigurationError
from fastcnn.execution.backend_choice import run
from fastcnn.execution.checks import as_batch
from fastcnn.execution.engine_arguments import input_factors, stored_samples
from fastcnn.execution.engines import threads_or_default
from fastcnn.execution.passes import predict_logits
from fastcnn.execution.prepared import MOST, make_inference
from fastcnn.layers.answers import Answers, ends_in
from fastcnn.layers.connections import as_model
from fastcnn.layers.packing import unpack

if TYPE_CHECKING:
    from fastcnn.backends.lanes import Inference
    from fastcnn.layers import Model


def session(
    model: "Model", *, max_batch: int = MOST, threads: int | None = None
) -> "InferenceSession":
    """Prepare a model for inference: the same outputs, with as little work as possible per call.

    Batch normalisation is folded into the layers before it, weights are packed once, and memory and
    threads are kept ready. The session has a copy of the weights: later changes of the model do not
    affect it.

    Parameters
    ----------
    model : Model
        Its ``input_shape`` must be known.
    max_batch : int
        Maximum samples that are run at a time; larger batches are divided. It bounds the memory,
        and changes outputs by rounding at most.
    threads : int, optional
        By default as in training: ``FASTCNN_NUM_THREADS``, or the number of cores. Outputs do not
        depend on it.

    Returns
    -------
    InferenceSession
        May be called from any number of Python threads concurrently.

    Raises
    ------
    ConfigurationError
        If an argument is not positive, or the model needs the statistics of whole batches.

    Examples
    --------
    >>> import numpy as np, fastcnn
    >>> model = fastcnn.models.report_cnn(seed=0)
    >>> session = fastcnn.session(model)
    >>> session.predict_proba(np.zeros((1, 1, 28, 28), np.float32)).shape
    (1, 3)
    """
    return InferenceSession(model, max_batch, threads)


def _received(algorithm: str | None, *arguments: Any) -> "InferenceSession":
    from fastcnn.backends.lanes import conv_algorithm

    with conv_algorithm(algorithm):
        return InferenceSession(*arguments)


class InferenceSession(Answers):
    """A model prepared for inference; made by :func:`session`.

    Attributes
    ----------
    input_shape, output_shape : tuple of int
        The shape of one sample.
    max_batch : int
    threads : int
    """

    def __init__(self, model: "Model", max_batch: int, threads: int | None) -> None:
        self.max_batch = as_count("session", "max_batch", max_batch)
        graph = as_model(model).graph()
        whole = graph.batch_statistics(training=False)
        if whole:
            raise ConfigurationError(
                f"session: layer {whole[0].name!r} has no running statistics and uses those of "
                "each batch: use model.logits"
            )
        self.input_shape = graph.input_shape
        self.output_shape = graph.output_shape
        self.preprocessing = model.preprocessing
        self.predicts = model.predicts
        self._folded = model.fold_batch_norm()
        self._tells_classes = (
            len(self.output_shape) == 1
            and self.output_shape[0] > 1
            and not graph.outputs
            and not ends_in(graph, "softmax")[0]
            and self.predicts in (None, "classes")
        )
        self.threads = threads_or_default("session", threads)
        #: By dtype of samples: scales and offsets, and whether passes read the samples unchanged.
        self._known: dict[np.dtype, tuple[np.ndarray, bool]] = {}
        self._inference = run(None, self._on_engine, lambda name: None)

    def __reduce__(self) -> tuple[Any, ...]:
        # Prepared passes contain addresses of this process.
        algorithm = self._inference and self._inference.algorithm
        return _received, (algorithm, self._folded, self.max_batch, self.threads)

    def _on_engine(self) -> "Inference":
        made = make_inference(self._folded, self._folded.graph(), self.max_batch, self.threads)
        for count in {1, made.most}:
            made.choose(count)
        return made

    def graph(self, input_shape: tuple[int, ...] | None = None) -> Graph:
        """The network's graph, as the session runs it."""
        return self._folded.graph(input_shape)

    def __call__(self, x: Any) -> Any:
        """The same as :meth:`logits`."""
        return self.logits(x)

    def logits(self, x: Any, *, backend: str | None = None, batch_size: int | None = None) -> Any:
        """Output of the last layer for samples ``x``, as in :meth:`Model.logits`.

        Parameters
        ----------
        x : array_like, shape (N, ...)
        backend, batch_size : None
            A session has its own.

        Returns
        -------
        ndarray, shape (N, ...)
        """
        if backend is not None or batch_size is not None:
            raise ConfigurationError("a session has a backend and a batch size: pass none")
        x = as_batch(self._folded, x, empty=True)
        if self._inference is None or not len(x):
            how = {"batch_size": self.max_batch, "threads": self.threads}
            outputs = predict_logits(self._folded, x, backend="im2col", **how)
        else:
            outputs = self._inference.outputs(*self._prepared(x))
        ports = self.graph().outputs
        return unpack(ports, outputs) if ports else outputs

    def predict_proba(
        self, x: Any, *, backend: str | None = None, batch_size: int | None = None
    ) -> np.ndarray:
        """Class probabilities, as in :meth:`Model.predict_proba`.

        Parameters
        ----------
        x : array_like, shape (N, ...)
        backend, batch_size : None
            A session has its own.

        Returns
        -------
        ndarray of float32, shape (N, classes)

        Raises
        ------
        ConfigurationError
            If the model was trained to predict values, or has one output.
        NonFiniteError
            If an output is NaN or infinite.
        """
        given = backend is not None or batch_size is not None
        if not given and self._inference is not None and self._tells_classes:
            samples = as_batch(self._folded, x, empty=True)
            if len(samples):
                found = self._inference.probabilities(*self._prepared(samples))
                if found is not None:
                    return found
        # This also reports errors.
        return super().predict_proba(x, backend=backend, batch_size=batch_size)

    def _prepared(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Checked samples as passes read them, and the scales and offsets of their channels."""
        known = self._known.get(x.dtype)
        if known is None:
            factors = np.concatenate(input_factors(self.preprocessing, x))
            as_they_are = x.dtype in (np.uint8, np.float32)
            as_they_are &= self.preprocessing.is_exact_in_float32(x)
            known = self._known[x.dtype] = factors, as_they_are
        factors, as_they_are = known
        if not (as_they_are and x.flags.c_contiguous):
            x = stored_samples(self.preprocessing, x)
        return x, factors
