"""``fastcnn.plan``: the engine's program for a model, without running it."""

from typing import TYPE_CHECKING

from fastcnn.arguments import as_count, as_flag
from fastcnn.errors import ConfigurationError
from fastcnn.execution.checks import bound_loss
from fastcnn.execution.engine_arguments import loss_key
from fastcnn.execution.engines import parameter_places, running_statistics, threads_or_default
from fastcnn.layers.connections import as_model
from fastcnn.losses import Loss

if TYPE_CHECKING:
    from fastcnn.backends.lanes import Program
    from fastcnn.layers import Model


def plan(
    model: "Model",
    batch_size: int = 64,
    *,
    training: bool = True,
    loss: Loss | None = None,
    threads: int | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> "Program":
    """The program of the lanes engine for a model and a batch size.

    Parameters
    ----------
    model : Model
    batch_size : int
    training : bool
        Whether to plan a training step (forward, loss, backward), or inference.
    loss : Loss, optional
        By default the cross-entropy.
    threads : int, optional
        By default as many as the engine would use.
    input_shape : tuple of int, optional
        Shape of one sample; by default the model's own.

    Returns
    -------
    Program
        ``print(plan(model).describe())`` shows each kernel with its sizes, register tile, bytes
        and FLOPs.

    Raises
    ------
    ConfigurationError
        If ``batch_size`` or ``threads`` is not positive, or the engine does not support the model.
    ShapeError
        If the shape of a sample is unknown or does not fit the model.

    Examples
    --------
    >>> import fastcnn
    >>> program = fastcnn.plan(fastcnn.models.lenet5(seed=0), batch_size=64, threads=2)
    >>> print(program.describe())  # doctest: +SKIP
    """
    from fastcnn.backends import lanes

    batch_size = as_count("plan", "batch_size", batch_size)
    threads = threads_or_default("plan", threads)
    training = as_flag("plan", "training", training)
    graph = as_model(model).graph(input_shape)
    try:
        places = parameter_places(model)
        running_statistics(model, graph, training)
        if not training:
            return lanes.plan(graph, batch_size, places, threads, lanes.Purpose(outputs=True))
        key = loss_key(bound_loss(model, loss))
        purpose = lanes.Purpose(loss=key, training=True)
        return lanes.plan(graph, batch_size, places, threads, purpose)
    except lanes.Unsupported as reason:
        raise ConfigurationError(f"the lanes engine does not support {reason}") from None
