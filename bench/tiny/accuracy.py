"""The loss of accuracy by 8-bit integers, on real images."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import fastcnn
from fastcnn.interop.c import export_c
from fastcnn.layers import Model

#: Training images for choosing scales, and test images for the accuracy.
CALIBRATION, TESTED = 500, 2000


def accuracies(pictures: str) -> list[dict[str, Any]]:
    """Train, quantise and test; prints each result."""
    trained: list[tuple[str, str, int, float, Callable[[], Model]]] = [
        ("lenet5", "mnist", 2, 0.05, lambda: fastcnn.models.lenet5(seed=0)),
        ("resnet8", pictures, 8, 0.2, lambda: fastcnn.models.resnet8(seed=0)),
        (
            "ds_cnn",
            "fashion_mnist",
            3,
            0.1,
            lambda: fastcnn.models.ds_cnn(10, seed=0, input_shape=(1, 28, 28)),
        ),
    ]
    records = []
    for name, source, epochs, rate, make in trained:
        train, test = fastcnn.data.load(source)
        model = make()
        fastcnn.fit(model, train, epochs=epochs, lr=rate, schedule="one-cycle", verbose=False)
        order = np.random.default_rng(0).permutation(len(test.images))[:TESTED]
        images, labels = test.images[order], test.labels[order]
        with TemporaryDirectory() as folder:
            calibration = train.images[:: len(train.images) // CALIBRATION][:CALIBRATION]
            made = export_c(model, Path(folder) / "net.h", calibration=calibration)
        assert made.integers is not None
        whole = made.integers.outputs(images).argmax(axis=1)
        records.append(
            {
                "network": name,
                "data": Path(source).name.partition(".")[0],
                "epochs": epochs,
                "tested": len(images),
                "float": round(100 * float(np.mean(model.predict(images) == labels)), 2),
                "int8": round(100 * float(np.mean(whole == labels)), 2),
            }
        )
        print(records[-1], flush=True)
    return records
