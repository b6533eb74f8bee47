"""Running statistics of batch normalisation, measured again for weights that were averaged."""

import numpy as np

from fastcnn.errors import ConfigurationError
from fastcnn.execution import forward
from fastcnn.execution.assigned import running_means, with_frozen_statistics
from fastcnn.layers import Model
from fastcnn.training.feed import Feed
from fastcnn.training.options import TrainingOptions
from fastcnn.training.stream import StreamFeed


def measure_statistics(model: Model, feed: Feed | StreamFeed, options: TrainingOptions) -> None:
    """Set running statistics to their means over whole batches of the training images.

    As ``torch.optim.swa_utils.update_bn`` does; images are not augmented, and come in their order.

    Raises
    ------
    ConfigurationError
        If a batch normalisation has a momentum of 0: it does not show a batch's statistics.
    """
    graph = model.graph()
    frozen = options.make_assignment().frozen_statistics(running_means(graph))
    graph = with_frozen_statistics(graph, frozen)
    state, moved = model.state_dict(), {}
    for node in graph.nodes:
        if node.tracks(training=True):
            momentum = node.arguments["momentum"]
            if momentum == 0.0:
                raise ConfigurationError(
                    f"swa_start: layer {node.name!r} has momentum=0 and shows no statistics"
                )
            for name in ("running_mean", "running_var"):
                moved[node.buffers[name]] = momentum or 1.0
    if not moved:
        return
    assert isinstance(feed, Feed)  # a stream's has refused this
    counters = {key: state[key].copy() for key in state if key.endswith("num_batches_tracked")}
    rows = np.arange(len(feed.data)) if feed.rows is None else feed.rows
    size = min(options.batch_size, len(rows))
    totals = {key: np.zeros(state[key].shape) for key in moved}
    batches = len(rows) // size
    for index in range(batches):
        for key in moved:
            state[key][...] = 0.0
        for key in counters:
            state[key][...] = 0
        images = feed.data.images[rows[index * size : (index + 1) * size]]
        forward(
            model, images, backend=options.backend, training=True, seed=options.seed, step=index,
            graph=graph,
        )  # fmt: skip
        for key, factor in moved.items():
            totals[key] += state[key] / np.float64(factor)
    for key, total in totals.items():
        state[key][...] = total / batches
    for key, value in counters.items():
        state[key][...] = value
