"""Ready-made networks, from the report's to MobileNetV2 and U-Net.

Each is a function of its sizes, such as ``num_classes`` and ``input_shape`` (C, H, W), and of a
``seed`` for its initial weights, and returns a new model. More networks, to be copied, are in the
project's ``bench/networks``.
"""

from collections.abc import Callable

from fastcnn.layers import Model
from fastcnn.models.chains import (
    ACTIVATIONS,
    airbench,
    auto_cnn,
    lenet5,
    report_cnn,
    resnet8,
    resnet20,
    vgg_small,
)
from fastcnn.models.graphs import (
    autoencoder,
    densenet_bc_40,
    ds_cnn,
    m5,
    mobilenet_v2,
    squeezenet,
    unet,
)

__all__ = [
    "ACTIVATIONS",
    "MODELS",
    "airbench",
    "auto_cnn",
    "autoencoder",
    "densenet_bc_40",
    "ds_cnn",
    "lenet5",
    "m5",
    "mobilenet_v2",
    "report_cnn",
    "resnet8",
    "resnet20",
    "squeezenet",
    "unet",
    "vgg_small",
]

#: Classification networks by their names on the command line.
MODELS: dict[str, Callable[..., Model]] = {
    make.__name__: make
    for make in (
        report_cnn,
        lenet5,
        vgg_small,
        resnet8,
        resnet20,
        airbench,
        densenet_bc_40,
        squeezenet,
        mobilenet_v2,
        ds_cnn,
    )
}
