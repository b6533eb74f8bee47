"""A training in plain values: what the command line and a sweep have in common."""

import inspect
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from fastcnn.data.dataset import Dataset
from fastcnn.errors import ConfigurationError
from fastcnn.layers import Model
from fastcnn.layers.definition import from_definition, read_definition
from fastcnn.layers.saved import load_state
from fastcnn.models import ACTIVATIONS, MODELS, auto_cnn
from fastcnn.training.declarations import option
from fastcnn.training.fit import fit
from fastcnn.training.history import History
from fastcnn.training.options import TrainingOptions

#: The model that fits the images, see :func:`fastcnn.models.auto_cnn`.
AUTO = "auto"
log = logging.getLogger("fastcnn")


@dataclass(frozen=True, kw_only=True)
class Recipe(TrainingOptions):
    """A model by name, and the options of its training.

    Raises
    ------
    ConfigurationError
        If a value is not accepted, or an option that was given has no effect with the others.
    """

    model: str | None = option(
        None,
        f"{', '.join(MODELS)}, auto (fits the images' size and number), or a TOML or "
        "JSON file that describes one; by default report for grey images of 28 x 28, otherwise "
        "auto.",
        part="",
    )
    activation: str | None = option(
        None,
        "Activation after the fully connected layers of the report's network: "
        f"{', '.join(ACTIVATIONS)}; by default relu.",
        choices=tuple(ACTIVATIONS),
        part="",
    )
    init: str | None = option(
        None,
        "Safetensors file of initial weights, such as model.safetensors of another run or one of "
        "PyTorch's: what fits is loaded, and the output names the rest.",
        part="",
    )
    skip: str | None = option(
        None,
        "Weights of --init that are left out, as patterns of their names with spaces between, such "
        'as "fc3.*".',
        part="",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.skip is not None and self.init is None:
            raise ConfigurationError("skip has no effect without init")
        if self.model not in (None, AUTO, *MODELS) and not self.is_file:
            raise ConfigurationError(
                f"model must be one of {', '.join(MODELS)}, {AUTO}, or a .toml or .json file, "
                f"got {self.model!r}"
            )
        if self.model is not None:
            self._check_activation(self.model)

    def _check_activation(self, model: str) -> None:
        if self.activation is not None and not _takes(model, "activation"):
            takers = ", ".join(name for name in MODELS if _takes(name, "activation"))
            raise ConfigurationError(
                f"activation has no effect with the model {model}: it belongs to {takers}"
            )

    @property
    def is_file(self) -> bool:
        """Whether the network is described by a file."""
        return self.model is not None and self.model.endswith((".toml", ".json"))

    def model_name(self, train: Dataset) -> str:
        """The model, or what it is by default for these samples."""
        if self.model is not None:
            return self.model
        return "report" if train.input_shape == (1, 28, 28) else AUTO

    def model_arguments(self, train: Dataset) -> dict[str, Any]:
        """Arguments of the function in :data:`~fastcnn.models.MODELS`; none of other models."""
        if self.model_name(train) not in MODELS:
            return {}
        arguments: dict[str, Any] = {"num_classes": len(train.classes), "seed": self.seed}
        if self.activation is not None:
            arguments["activation"] = self.activation
        if _takes(self.model_name(train), "input_shape"):
            arguments["input_shape"] = list(train.input_shape)
        return arguments

    def make_model(self, train: Dataset, say: Callable[[str], None] | None = None) -> Model:
        """The network for these samples, with its initial weights.

        Parameters
        ----------
        train : Dataset
        say : callable, optional
            Called with what was loaded of initial weights that were given; by default what did not
            fit is logged.

        Raises
        ------
        ConfigurationError
            If the file that should describe it does not, it has no activation to choose, or a
            pattern of ``skip`` fits nothing.
        CheckpointError
            If the file of initial weights is missing or damaged, or nothing of it fits.
        """
        model = self._new_model(train)
        if self.init is not None:
            skip = (self.skip or "").split()
            report = load_state(model, self.init, strict=False, skip=skip)
            if say is not None or not report.fits:
                (say or log.warning)(f"{self.init}: {report}")
        return model

    def _new_model(self, train: Dataset) -> Model:
        if self.is_file:
            return from_definition(read_definition(str(self.model)), self.seed)
        name = self.model_name(train)
        self._check_activation(name)
        if name == AUTO:
            channels, height, width = train.input_shape
            return auto_cnn((channels, height, width), len(train.classes), len(train), self.seed)
        return MODELS[name](**self.model_arguments(train))

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
        model = self.make_model(train)
        return model, fit(model, train, test, **{**self.training(), **others})


#: Pictures below which their augmentation is on.
FEW_PICTURES = 5_000
#: Steps that a training on pictures takes, unless it stops early, and the bounds of its epochs.
STEPS, LEAST_EPOCHS, MOST_EPOCHS = 1_500, 10, 60


def suited(train: Dataset, recipe: Recipe, given: Collection[str]) -> dict[str, Any]:
    """Options that suit the training of a new network on pictures of any kind.

    AdamW along half a cosine, as many epochs as make 1,500 steps, and an end when the loss does not
    fall any more; for fewer than 5,000 pictures they are moved, turned and scaled at random, and
    mirrored if they have colours, which writing and signs have less often.

    Parameters
    ----------
    train : Dataset
    recipe : Recipe
    given : collection of str
        Options of the recipe that are not to be chosen, nor any that would not fit them.

    Returns
    -------
    dict
        Other options by name.
    """
    chosen: dict[str, Any] = {}
    chosen["batch_size"] = 32 if len(train) < 2 * FEW_PICTURES else 64
    batch = recipe.batch_size if "batch_size" in given else chosen["batch_size"]
    chosen["epochs"] = min(max(round(STEPS * batch / len(train)), LEAST_EPOCHS), MOST_EPOCHS)
    epochs = recipe.epochs if "epochs" in given else chosen["epochs"]
    if not {"optimizer", "momentum", "nesterov"} & set(given):
        chosen |= {"optimizer": "adamw", "lr": 0.003}
    chosen["schedule"] = "cosine"
    patience = max(5, epochs // 4)
    if patience < epochs:
        chosen["early_stopping"] = patience
    if len(train) < FEW_PICTURES:
        channels, height, width = train.input_shape
        shift = max(1, min(height, width) // 14)
        mirror = "" if channels == 1 else ",flip"
        chosen["augment"] = f"shift={shift},rotation=10,scale=0.1{mirror}"
    return {name: value for name, value in chosen.items() if name not in given}


def _takes(model: str, argument: str) -> bool:
    return model in MODELS and argument in inspect.signature(MODELS[model]).parameters
