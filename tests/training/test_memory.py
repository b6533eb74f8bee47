"""Memory that a training run allocates beyond its data."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.execution import prepared
from fastcnn.training.callbacks import Callback


def test_a_run_of_vgg_small_needs_less_than_100_megabytes() -> None:
    x = np.random.default_rng(0).integers(0, 256, (80, 3, 32, 32)).astype(np.uint8)
    y = np.arange(80) % 10
    model = fastcnn.models.vgg_small(seed=0)
    first = fastcnn.models.report_cnn(seed=0)
    # Loads the kernels.
    fastcnn.fit(first, (x[:16, :1, :28, :28], y[:16] % 3), epochs=1)
    tracemalloc.start()
    try:
        # Including passes over test samples and the monitor of activations.
        fastcnn.fit(model, (x, y), (x, y), epochs=1, batch_size=64, threads=2)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # No im2col buffer: that of the second convolution alone would have 64 * 1024 * 288 floats.
    assert most < 100e6


def test_validation_and_test_of_an_epoch_prepare_the_network_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, kept = [], []

    def counted(*arguments: Any) -> Any:
        made.append(arguments)
        return make_inference(*arguments)

    class Looking(Callback):
        def on_epoch_end(self, epoch: Any, model: Any) -> None:
            kept.append(model in prepared._kept)

    make_inference = prepared.make_inference
    monkeypatch.setattr(prepared, "make_inference", counted)
    x = np.random.default_rng(0).integers(0, 256, (32, 1, 28, 28)).astype(np.uint8)
    y = np.arange(32) % 3
    model = fastcnn.models.report_cnn(seed=0)
    options = {"epochs": 2, "backend": "lanes", "callbacks": [Looking()], "diagnose": False}
    fastcnn.fit(model, (x, y), (x, y), validation=(x[:16], y[:16]), **options)
    assert len(made) == 2
    assert kept == [False, False]
