"""A training in plain values, as used by the command line and sweeps."""

import inspect
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from fastcnn.data.dataset import Dataset
from fastcnn.errors import ConfigurationError, counted
from fastcnn.layers import Model
from fastcnn.layers.definition import model_of_file
from fastcnn.layers.saved import load_state
from fastcnn.models import ACTIVATIONS, MODELS, auto_cnn
from fastcnn.training.declarations import option
from fastcnn.training.fit import fit
from fastcnn.training.history import History
from fastcnn.training.options import TrainingOptions

#: The model chosen to suit the images, see :func:`fastcnn.models.auto_cnn`.
AUTO = "auto"
log = logging.getLogger("fastcnn")


@dataclass(frozen=True, kw_only=True)
class Recipe(TrainingOptions):
    """A model by name, and the options of its training.

    Parameters
    ----------
    model, activation, init, skip : str, optional
        As the options of ``fastcnn train``.
    **options
        Those of :func:`~fastcnn.training.fit`.

    Raises
    ------
    ConfigurationError
        If a value is not accepted, or an option that was given has no effect with the others.
    """

    model: str | None = option(
        None,
        f"{', '.join(MODELS)}, auto (chosen by size and number of images), or a TOML or "
        "JSON file that describes one; by default report_cnn for grey images of 28 x 28, otherwise "
        "auto.",
        part="",
    )
    activation: str | None = option(
        None,
        "Activation after the fully connected layers of report_cnn: "
        f"{', '.join(ACTIVATIONS)}; by default relu.",
        choices=tuple(ACTIVATIONS),
        part="",
    )
    init: str | None = option(
        None,
        "Safetensors file of initial weights, such as model.safetensors of another run or one from "
        "PyTorch: matching weights are loaded, and the output lists the rest.",
        part="",
    )
    skip: str | None = option(
        None,
        'Weights of --init to leave out, as name patterns separated by spaces, such as "fc3.*".',
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
        """The model's name, by default the one chosen for these samples.

        Parameters
        ----------
        train : Dataset
        """
        if self.model is not None:
            return self.model
        return "report_cnn" if train.input_shape == (1, 28, 28) else AUTO

    def model_arguments(self, train: Dataset) -> dict[str, Any]:
        """Arguments of the function in :data:`~fastcnn.models.MODELS`; empty for other models.

        Parameters
        ----------
        train : Dataset
        """
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
            Called with a report of the initial weights that were loaded; by default only mismatches
            are logged.

        Raises
        ------
        ConfigurationError
            If the model's file is invalid, it has no activation to choose, or a pattern of ``skip``
            matches nothing.
        CheckpointError
            If the file of initial weights is missing or damaged, or none of them match.
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
            model = model_of_file(str(self.model), self.seed)
            outputs = model.output_shape(model.input_shape or train.input_shape)
            known = len(train.classes)
            if 0 < known < outputs[0] and self.make_loss().classes:
                raise ConfigurationError(
                    f"{self.model}: the network has {outputs[0]} outputs, and {train.name} has "
                    f"{counted(known, 'class')}: make its last layer smaller"
                )
            return model
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
            Further arguments of :func:`~fastcnn.training.fit`, which override the recipe's options:
            ``backend``, ``threads``, ``callbacks``.
        """
        model = self.make_model(train)
        return model, fit(model, train, test, **{**self.training(), **others})


#: Number of pictures below which they are augmented.
FEW_PICTURES = 5_000
#: Steps of a run on pictures, unless it stops early, and bounds of its epochs.
STEPS, LEAST_EPOCHS, MOST_EPOCHS = 1_500, 10, 60


def suited(train: Dataset, recipe: Recipe, given: Collection[str]) -> dict[str, Any]:
    """Choose options for training a new network on pictures of any kind.

    AdamW with a cosine schedule, enough epochs for 1,500 steps, and early stopping; fewer than
    5,000 pictures are randomly shifted, rotated and scaled, and mirrored if they have colours,
    which writing and signs less often have.

    Parameters
    ----------
    train : Dataset
    recipe : Recipe
    given : collection of str
        Options of the recipe that were given: neither they nor options that conflict with them are
        chosen.

    Returns
    -------
    dict
        The chosen options by name.
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
    if patience < epochs and recipe.validation != 0:
        chosen["early_stopping"] = patience
    if len(train) < FEW_PICTURES:
        channels, height, width = train.input_shape
        shift = max(1, min(height, width) // 14)
        mirror = "" if channels == 1 else ",flip"
        chosen["augment"] = f"shift={shift},rotation=10,scale=0.1{mirror}"
    return {name: value for name, value in chosen.items() if name not in given}


def _takes(model: str, argument: str) -> bool:
    return model in MODELS and argument in inspect.signature(MODELS[model]).parameters
