"""The networks of MLPerf Tiny, with published measurements."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.networks import mobile
from fastcnn.layers import Model
from fastcnn.models.draft import Draft, draft


@dataclass(frozen=True)
class Network:
    """A network of the suite.

    Attributes
    ----------
    models : tuple of str
        Its 8-bit and its float file in github.com/mlcommons/tiny, below ``benchmark/training``.
    published : float
        Inferences per second of the suite's reference on a microcontroller: see ``PUBLISHED``.
    """

    title: str
    make: Callable[[Draft], Model]
    models: tuple[str, ...]
    published: float

    def model(self) -> Model:
        """The network, with weights of a fixed seed."""
        return self.make(draft(0))


#: Median throughputs in closed/reference/results/Nucleo-L4R5ZI/*/performance/results.txt.
PUBLISHED = "https://github.com/mlcommons/tiny_results_v0.5"
NETWORKS = {
    "resnet8": Network(
        "ResNet-8, 3 x 32 x 32",
        mobile.image_classification,
        (
            "image_classification/trained_models/pretrainedResnet_quant.tflite",
            "image_classification/trained_models/pretrainedResnet.tflite",
        ),
        1.420,
    ),
    "ds_cnn": Network(
        "DS-CNN, 1 x 49 x 10",
        mobile.keyword_spotting,
        ("keyword_spotting/trained_models/kws_ref_model.tflite",),
        5.497,
    ),
    "mobilenet": Network(
        "MobileNetV1 0.25, 3 x 96 x 96",
        mobile.visual_wake_words,
        (
            "visual_wake_words/trained_models/vww_96_int8.tflite",
            "visual_wake_words/trained_models/vww_96_float.tflite",
        ),
        1.665,
    ),
    "autoencoder": Network(
        "autoencoder, 640",
        mobile.anomaly_detection,
        (
            "anomaly_detection/trained_models/ad01_int8.tflite",
            "anomaly_detection/trained_models/ad01_fp32.tflite",
        ),
        99.487,
    ),
}
