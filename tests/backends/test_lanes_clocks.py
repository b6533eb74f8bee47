"""Runs with clocks around each kernel: they compute the same. No time is asserted."""

import numpy as np
import pytest

import fastcnn
from fastcnn.backends.lanes import Batches, Clocks, Update, UpdatePart, slot_stride
from fastcnn.execution.engine_arguments import loss_key
from fastcnn.execution.engines import make_engine

BATCH, STEPS = 40, 3


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("limit", [0.0, 0.1])
def test_same_results(threads: int, limit: float) -> None:
    """With the update of large weights in their gradient's row, and with a limit of the norm."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (BATCH, 1, 28, 28)).astype(np.uint8)
    labels = generator.integers(0, 2, BATCH)
    batches = Batches(images, np.resize(np.arange(BATCH), STEPS * BATCH), labels)
    weights = []
    for is_clocked in (False, True):
        model = fastcnn.Sequential(
            fastcnn.Conv2d(1, 3, 3, padding=1, seed=0), fastcnn.ReLU(), fastcnn.Flatten(),
            fastcnn.Linear(3 * 784, 160, seed=1), fastcnn.ReLU(), fastcnn.Linear(160, 2, seed=2),
            input_shape=(1, 28, 28),
        )  # fmt: skip
        loss = loss_key(fastcnn.CrossEntropyLoss())
        engine = make_engine(model, model.graph(), BATCH, threads, loss=loss, training=True)
        size = model.num_parameters
        # Two updates: the units of each have their own kernel.
        parts = UpdatePart(0, 30, "sgd"), UpdatePart(30, size, "momentum", (0.9, 0.0, 0.0))
        update = Update(parts, np.zeros((1, slot_stride(size)), np.float32), limit)
        rates = np.full(STEPS, 1e-5)
        if is_clocked:
            clocks = Clocks(engine)
            spans, ticks = clocks.run(batches, rates, update)
            assert ticks.shape == (threads, len(engine.program.rows) + 1)
            assert (ticks.sum(1) < spans).all()
            assert ticks[:, -1].sum() > 0
            assert clocks.tick > 0
            assert list(clocks.updated.values()) == ([] if limit else [3 * 784 * 160])
        else:
            engine.run(batches, rates, update=update)
        weights.append(model.parameter_vector.copy())
    np.testing.assert_array_equal(*weights)
