"""A trained network served by a running server, and drawn digits as its inputs."""

import contextlib
import io
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

import fastcnn
from fastcnn import data
from fastcnn.serve import Answers, make_server
from fastcnn.serve import server as server_module


@pytest.fixture(scope="session")
def answers() -> Answers:
    train, _ = data.digits_dataset(1500, 1, classes=(0, 1, 2))
    model = fastcnn.models.report_cnn(seed=0)
    fastcnn.fit(model, train, epochs=3)
    return Answers(model, train.classes, model.preprocessing, "report_cnn")


@contextlib.contextmanager
def running(answers: Answers) -> Iterator[Any]:
    made = make_server(answers)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    # On a busy machine an answer may take longer than the usual connection timeout.
    with (
        mock.patch.object(server_module, "MAX_SECONDS", 300.0),
        mock.patch.object(server_module._Handler, "timeout", 300.0),
    ):
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            made.server_close()
            thread.join()


@pytest.fixture
def server(answers: Answers) -> Iterator[Any]:
    with running(answers) as made:
        yield made


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def digit(label: int) -> np.ndarray:
    """A drawn digit, dark on bright, large and off-centre."""
    _, test = data.digits_dataset(10, 60, classes=(0, 1, 2))
    image = test.images[int(np.nonzero(test.labels == label)[0][0]), 0]
    paper = np.full((400, 300), 255, np.uint8)
    paper[150:374, 60:284] = 255 - np.kron(image, np.ones((8, 8), np.uint8))
    return paper
