"""Answers about pictures, for the page and the JSON endpoint."""

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fastcnn.backends import get_backend
from fastcnn.data.images import read_picture
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import DataError
from fastcnn.execution.parts import run_forward
from fastcnn.layers import Model

#: Number of feature maps shown per layer.
MOST_MAPS = 32
#: Pictures processed at once, and most pixels of each: they take some 12 bytes per pixel.
AT_ONCE, MAX_PIXELS = 2, 4_000_000


class ClientGoneError(Exception):
    """The client no longer waits for an answer."""


class Answers:
    """A network that answers about pictures.

    Parameters
    ----------
    model : Model
        With images as input.
    classes : tuple of str
    preprocessing : Preprocessing
        The model's, as ``run.normalisation`` or ``model.preprocessing``: it defines how pictures
        are read.
    name : str
        Name shown on the page.

    Raises
    ------
    DataError
        If the network has several inputs or outputs, or does not accept pictures, the number of its
        numbers differs from that of classes, or weights are not finite.
    """

    def __init__(
        self, model: Model, classes: tuple[str, ...], preprocessing: Preprocessing, name: str
    ) -> None:
        graph = model.graph()
        if graph.inputs or graph.outputs:
            raise DataError(
                "a network of several inputs or outputs cannot be shown on the page: use its "
                "predict in Python"
            )
        self.pictures = preprocessing.rule_for_pictures(model.input_shape)
        outputs = graph.output_shape
        if not model.predicts_classes:
            raise DataError(f"the network gives {model.predicts}, not classes: use fastcnn predict")
        if outputs != (len(classes),):
            raise DataError(f"the network gives {outputs}, not one number for each class")
        if not np.isfinite(model.parameter_vector).all():
            raise DataError("the network's weights are not finite: its training diverged")
        self.model = model
        self.shape = self.pictures.shape
        self.classes = classes
        self.name = name
        # Persistent threads, which reuse their memory.
        self._workers = ThreadPoolExecutor(AT_ONCE, "fastcnn-serve")

    def describe(self) -> dict[str, Any]:
        """A short description of the network."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "input_shape": list(self.shape),
            "paper": self.pictures.paper,
            "pictures": self.pictures.describe(),
            "parameters": self.model.num_parameters,
        }

    def about(
        self, content: bytes, maps: bool, is_gone: Callable[[], bool] | None = None
    ) -> dict[str, Any]:
        """Class probabilities of a picture, and with ``maps`` the output of every layer.

        Parameters
        ----------
        is_gone : callable, optional
            Called when the picture's turn comes, to check whether the client has gone.

        Raises
        ------
        DataError
            If the content is not a picture.
        ClientGoneError
            If the client has gone.
        """
        return self._workers.submit(self._about, content, maps, is_gone).result()

    def _about(
        self, content: bytes, maps: bool, is_gone: Callable[[], bool] | None
    ) -> dict[str, Any]:
        if is_gone is not None and is_gone():
            raise ClientGoneError
        picture = read_picture(content, self.pictures, most_pixels=MAX_PIXELS)
        pixels = picture.pixels
        probabilities = self.model.predict_proba(pixels[None])[0]
        if not np.isfinite(probabilities).all():
            raise DataError("the network's output for this picture is not finite")
        answer: dict[str, Any] = {
            "class": self.classes[int(probabilities.argmax())],
            "probabilities": {
                name: float(share) for name, share in zip(self.classes, probabilities, strict=True)
            },
            "input": _planes(pixels, (0.0, 255.0)),
            "done": list(picture.done),
        }
        if maps:
            answer["layers"] = self._layers(pixels[None])
        return answer

    def _layers(self, pixels: np.ndarray) -> list[dict[str, Any]]:
        """The output of every layer, except long vectors."""
        graph, x = self.model.graph(), self.model.preprocessing.apply(pixels)
        state, backend = self.model.state_dict(), get_backend("im2col")
        outputs = run_forward(graph, state, x, backend)
        return [
            {"name": node.name, "operation": node.operation, **_planes(output[0])}
            for node, output in zip(graph.nodes, outputs, strict=True)
            if output.ndim == 4 or len(output[0]) <= 512
        ]


def _planes(values: np.ndarray, bounds: tuple[float, float] | None = None) -> dict[str, Any]:
    """Channels as grey bytes in base64, scaled jointly from black to white."""
    maps = values if values.ndim == 3 else values.reshape(1, 1, -1)
    low, high = bounds or (float(maps.min()), float(maps.max()))
    grey = np.round(255 * (maps[:MOST_MAPS] - low) / max(high - low, 1e-12)).astype(np.uint8)
    return {
        "shape": list(values.shape),
        "range": [low, high],
        "maps": [base64.b64encode(plane.tobytes()).decode() for plane in grey],
        "size": list(maps.shape[1:]),
    }
