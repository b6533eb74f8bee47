"""The report's network with other activations, initial weights and dropout, or no convolutions."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt, prod

import numpy as np

from fastcnn.errors import ConfigurationError
from fastcnn.layers import (
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
    init,
)
from fastcnn.layers.base import WeightedLayer
from fastcnn.models import ACTIVATIONS, report_cnn

#: The learning rate that the report mentions.
REPORT_LR = 0.0005
#: Activations after convolutions; fully connected layers use those of ``report_cnn``.
CONV_ACTIVATIONS: dict[str, Callable[[], Layer]] = {
    "relu": ReLU,
    "leaky": lambda: LeakyReLU(0.1),
    "tanh": Tanh,
    "sigmoid": Sigmoid,
}
#: Names of activations in figures and text.
NAMES = {"relu": "ReLU", "leaky": "leaky ReLU", "tanh": "tanh", "sigmoid": "sigmoid"}


@dataclass(frozen=True)
class Network:
    """Differences from :func:`~fastcnn.models.report_cnn`.

    Attributes
    ----------
    activation : {"relu", "sigmoid", "tanh"}
        After the fully connected layers.
    conv_activation : {"relu", "leaky", "tanh", "sigmoid"}
        After the convolutions.
    weight_init, bias_init : Initializer, optional
        Initialiser of all layers; by default those of ``report_cnn``: Kaiming before a ReLU, Xavier
        elsewhere, biases zero.
    dropout : float
        Dropout probability after each hidden fully connected layer.
    convolutions : bool
        False: only fully connected layers, with the same total number of parameters.
    """

    activation: str = "relu"
    conv_activation: str = "relu"
    weight_init: init.Initializer | None = None
    bias_init: init.Initializer | None = None
    dropout: float = 0.0
    convolutions: bool = True

    def build(self, num_classes: int, seed: int) -> Sequential:
        """The network with its initial weights.

        Raises
        ------
        ConfigurationError
            If there is no activation of that name.
        """
        if self.conv_activation not in CONV_ACTIVATIONS:
            raise ConfigurationError(
                f"conv_activation must be one of {', '.join(CONV_ACTIVATIONS)}, "
                f"got {self.conv_activation!r}"
            )
        model = report_cnn(self.activation, seed, num_classes=num_classes)
        if not self.convolutions:
            model = fully_connected(model, self.activation, seed)
        layers: dict[str, Layer] = {}
        for name, layer in model.layers.items():
            if name in ("relu1", "relu2") and self.convolutions:
                name = f"{self.conv_activation}{name[-1]}"
                layer = CONV_ACTIVATIONS[self.conv_activation]()
            layers[name] = layer
            if self.dropout and name in (f"{self.activation}3", f"{self.activation}4"):
                layers[f"dropout{name[-1]}"] = Dropout(self.dropout)
        generator = np.random.default_rng(seed)
        for layer in layers.values():
            if isinstance(layer, WeightedLayer):
                if self.weight_init is not None:
                    layer.weight[...] = self.weight_init(layer.weight.shape, generator)
                if self.bias_init is not None and layer.bias is not None:
                    layer.bias[...] = self.bias_init(layer.bias.shape, generator)
        return Sequential(layers, input_shape=model.input_shape)


def fully_connected(model: Sequential, activation: str, seed: int) -> Sequential:
    """Two equal hidden layers, with the parameter count of ``model`` to within one unit.

    Its layers are named like the fully connected ones of ``report_cnn``.
    """
    assert model.input_shape is not None
    inputs, outputs = prod(model.input_shape), model.output_shape(model.input_shape)[0]
    parameters = sum(value.size for value in model.named_parameters().values())
    # inputs h + h + h h + h + h outputs + outputs = parameters, solved for h
    linear = inputs + outputs + 2
    hidden = round((isqrt(linear**2 + 4 * (parameters - outputs)) - linear) / 2)
    generator = np.random.default_rng(seed)
    draw: init.Initializer = init.Kaiming() if activation == "relu" else init.Xavier()
    layers: dict[str, Layer] = {"flatten": Flatten()}
    sizes = (inputs, hidden, hidden, outputs)
    activate = ACTIVATIONS[activation]
    for index in range(3):
        layers[f"fc{index + 1}"] = Linear(
            sizes[index],
            sizes[index + 1],
            weight_init=init.Xavier() if index == 2 else draw,
            bias_init=init.Constant(0.0),
            seed=generator,
        )
        if index < 2:
            layers[f"{activation}{index + 3}"] = activate()
    return Sequential(layers, input_shape=model.input_shape)
