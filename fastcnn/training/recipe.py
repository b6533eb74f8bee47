"""A training in plain values: what the command line and a sweep have in common."""

import inspect
from dataclasses import dataclass
from typing import Any

from fastcnn.data.dataset import Dataset
from fastcnn.errors import ConfigurationError
from fastcnn.layers import Model
from fastcnn.layers.definition import from_definition, read_definition
from fastcnn.models import ACTIVATIONS, MODELS
from fastcnn.training.declarations import option
from fastcnn.training.fit import fit
from fastcnn.training.history import History
from fastcnn.training.options import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Recipe(TrainingOptions):
    """A model by name, and the options of its training.

    Raises
    ------
    ConfigurationError
        If a value is not accepted, or an option that was given has no effect with the others.
    """

    model: str = option(
        "report", f"{', '.join(MODELS)}, or a TOML or JSON file that describes one.", part=""
    )
    activation: str | None = option(
        None,
        "Activation after the fully connected layers of the report's network: "
        f"{', '.join(ACTIVATIONS)}; by default relu.",
        choices=tuple(ACTIVATIONS),
        part="",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.is_file and self.model not in MODELS:
            raise ConfigurationError(
                f"model must be one of {', '.join(MODELS)}, or a .toml or .json file, "
                f"got {self.model!r}"
            )
        if self.activation is not None and (self.is_file or not _takes_activation(self.model)):
            takers = ", ".join(name for name in MODELS if _takes_activation(name))
            raise ConfigurationError(
                f"activation has no effect with the model {self.model}: it belongs to {takers}"
            )

    @property
    def is_file(self) -> bool:
        """Whether the network is described by a file."""
        return self.model.endswith((".toml", ".json"))

    def model_arguments(self, num_classes: int) -> dict[str, Any]:
        """Arguments of the model's function; none where a file describes it."""
        if self.is_file:
            return {}
        arguments: dict[str, Any] = {"num_classes": num_classes, "seed": self.seed}
        if self.activation is not None:
            arguments["activation"] = self.activation
        return arguments

    def make_model(self, num_classes: int) -> Model:
        """The network, with its initial weights.

        Raises
        ------
        ConfigurationError
            If the file that should describe it does not.
        """
        if self.is_file:
            return from_definition(read_definition(self.model), self.seed)
        return MODELS[self.model](**self.model_arguments(num_classes))

    def run(
        self, train: Dataset, test: Dataset | None = None, **others: Any
    ) -> tuple[Model, History]:
        """Train a new network.

        Parameters
        ----------
        train, test : Dataset
        **others
            Passed to :func:`~fastcnn.training.fit` beyond the recipe's own options, or in their
            place: ``backend``, ``threads``, ``callbacks``.
        """
        model = self.make_model(len(train.classes))
        return model, fit(model, train, test, **{**self.training(), **others})


def _takes_activation(model: str) -> bool:
    return "activation" in inspect.signature(MODELS[model]).parameters
