"""A recipe: data, model, training and evaluation in one readable table."""

import tomllib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn import losses
from fastcnn.arguments import as_count, as_number
from fastcnn.data import Dataset, Preprocessing, load
from fastcnn.data.dataset import as_dataset
from fastcnn.errors import ConfigurationError, cause
from fastcnn.files import atomic_write, expanded, read_bytes
from fastcnn.layers import Model, init
from fastcnn.layers.definition import from_definition, model_of_file
from fastcnn.models import MODELS
from fastcnn.optim import optimizers, schedules
from fastcnn.recipes.toml_text import toml_text
from fastcnn.training import History, evaluate, fit
from fastcnn.training.declarations import declarations
from fastcnn.training.evaluation import Evaluation, check_tta
from fastcnn.training.options import NONE, TrainingOptions

#: Sections of a recipe, with their keys unless other classes define them.
SECTIONS: dict[str, tuple[str, ...] | None] = {
    "data": ("name", "mean", "std"),
    "model": None,
    "training": None,
    "evaluation": ("tta",),
    "published": ("accuracy", "seconds", "machine", "where"),
}
#: Options of training that are objects, described by a table.
OBJECTS = {"loss": losses.NAMED, "optimizer": optimizers.NAMED, "schedule": schedules.NAMED}
#: Initial weights that a recipe can name.
WEIGHTS: dict[str, init.Initializer] = {
    "kaiming": init.Kaiming(),
    "kaiming-uniform": init.Kaiming("uniform"),
    "xavier": init.Xavier(),
    "xavier-normal": init.Xavier("normal"),
    "lecun": init.Kaiming(negative_slope=1.0),
}
#: Keys allowed in a model's table in addition to the description of the network.
OF_WEIGHTS = ("initial", "whiten")


@dataclass(frozen=True)
class NamedRecipe:
    """A complete training, from data to accuracy, as a table that can be read and written.

    Attributes
    ----------
    name : str
    settings : dict
        ``about`` and the sections ``data``, ``model``, ``training``, ``evaluation`` and
        ``published``, as in the TOML file.

    Raises
    ------
    ConfigurationError
        At construction, if something is missing, unknown or invalid.
    """

    name: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.settings, Mapping):
            self._refuse(f"settings must be a table, got {self.settings!r}")
        unknown = set(self.settings) - {"about", *SECTIONS}
        if unknown:
            self._refuse(f"no section {', '.join(sorted(unknown))}: it has {', '.join(SECTIONS)}")
        for section, keys in SECTIONS.items():
            table = self._section(section)
            if not isinstance(table, Mapping):
                self._refuse(f"{section} must be a table, got {table!r}")
            if keys is not None and set(table) - set(keys):
                names = ", ".join(sorted(set(table) - set(keys)))
                self._refuse(f"{section} has no {names}: it has {', '.join(keys)}")
        if not isinstance(self._section("data").get("name"), str):
            self._refuse("data needs a name, such as mnist, or a path")
        check_tta(self.tta)
        self._preprocessing(Preprocessing())
        self.options  # noqa: B018  (is checked as it is made)
        self._check_model()

    @classmethod
    def read(cls, path: str | Path) -> "NamedRecipe":
        """Read a recipe from a TOML file; the file's name becomes the recipe's.

        Parameters
        ----------
        path : path

        Raises
        ------
        ConfigurationError
            If the file cannot be read, or does not describe a recipe.
        """
        path = expanded(path)
        try:
            found = tomllib.loads(read_bytes(path).decode("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{path} cannot be read as a recipe ({cause(error)})"
            ) from None
        return cls(path.stem, found)

    def write(self, path: str | Path) -> None:
        """Write the recipe as a TOML file, which :meth:`read` reads.

        Parameters
        ----------
        path : path

        Raises
        ------
        ConfigurationError
            If its name does not end in ``.toml``, which tells files from names of recipes.
        OSError
            If the file cannot be written.
        """
        check_file_name(path)
        atomic_write(expanded(path), self.text().encode())

    def text(self) -> str:
        """The recipe as TOML."""
        return toml_text({key: value for key, value in self.settings.items() if value != {}})

    @cached_property
    def options(self) -> TrainingOptions:
        """The options of the training."""
        table = dict(self._section("training"))
        for name, named in OBJECTS.items():
            if isinstance(table.get(name), Mapping):
                table[name] = named.from_description(table[name])
        return TrainingOptions.of(table)

    @property
    def about(self) -> str:
        """A one-sentence description of the recipe."""
        return str(self.settings.get("about", ""))

    @property
    def data_name(self) -> str:
        """The data set that the recipe is made for."""
        return str(self._section("data")["name"])

    @property
    def tta(self) -> str | None:
        """Test-time augmentation, as accepted by :func:`fastcnn.evaluate`."""
        return self._section("evaluation").get("tta")

    @property
    def published(self) -> dict[str, Any]:
        """Published results: ``accuracy`` in percent, ``seconds``, ``machine``, and the source."""
        return dict(self._section("published"))

    @property
    def model_name(self) -> str:
        """The model's name, or the recipe's name if it describes the layers itself."""
        return Path(str(self._section("model").get("name", self.name))).stem

    def changed(self, changes: Mapping[str, Any]) -> "NamedRecipe":
        """The recipe with other training options, another model or other data.

        Parameters
        ----------
        changes : mapping of str to object
            Options of :class:`~fastcnn.training.options.TrainingOptions` by name, and ``model``,
            ``activation``, ``data`` and ``tta``. An argument of the optimiser, schedule or loss
            changes that of the recipe's; a different optimiser, given by name, inherits none of its
            arguments. The description and the published results of the original are left out.

        Raises
        ------
        ConfigurationError
            If a change is unknown, not accepted, or has no effect.
        """
        if not isinstance(changes, Mapping):
            self._refuse(f"changes must be a table, got {changes!r}")
        settings: dict[str, Any] = deepcopy(dict(self.settings))
        given = dict(changes)
        if "model" in given:
            settings["model"] = {"name": given.pop("model")}
        if "activation" in given:
            settings["model"]["activation"] = given.pop("activation")
        if "data" in given:
            settings["data"]["name"] = given.pop("data")
        if "tta" in given:
            settings["evaluation"] = {"tta": given.pop("tta")}
        training, declared = settings.setdefault("training", {}), declarations(TrainingOptions)
        for part in OBJECTS.keys() & given.keys():
            for name in [name for name in training if declared[name].part == part]:
                del training[name]
        for name, value in given.items():
            part = declared[name].part if name in declared else ""
            table, inside = training, training.get(part)
            if name == "warmup_steps" and isinstance(inside, dict):
                training[part] = {"name": "warmup", "steps": value, "then": inside}
                continue
            if part in OBJECTS and name != part and isinstance(inside, dict):
                self._check_argument(part, inside, name)
                table = inside
            if value is None or (isinstance(value, str) and value == NONE):
                table.pop(name, None)
            else:
                table[name] = value
        if settings != self.settings:
            for of_original in ("about", "published"):
                settings.pop(of_original, None)
        return replace(self, settings=settings)

    def load_data(self, **arguments: Any) -> tuple[Dataset, Dataset]:
        """Training and test data, with the recipe's preprocessing.

        Parameters
        ----------
        **arguments
            Of :func:`fastcnn.data.load`, such as ``data_dir``.
        """
        train, test = load(self.data_name, **arguments)
        return self.prepared(train), self.prepared(test)

    def prepared(self, data: Dataset) -> Dataset:
        """A data set with the recipe's preprocessing.

        Parameters
        ----------
        data : Dataset
        """
        own = as_dataset("a recipe", data).preprocessing
        return replace(data, preprocessing=self._preprocessing(own))

    def make_model(self, train: Dataset, seed: int | None = None) -> Model:
        """The network with its initial weights.

        Parameters
        ----------
        train : Dataset
            Training data: they determine the number of classes, and the whitening filters of the
            first layer if the recipe has them.
        seed : int, optional
            By default the recipe's.
        """
        as_dataset("a recipe", train)
        seed = self.options.seed if seed is None else seed
        model = self._network(seed, self.model_arguments(train))
        initial = self._section("model").get("initial")
        if initial is not None:
            set_weights(model, WEIGHTS[initial], np.random.default_rng(seed))
        whiten = self._section("model").get("whiten")
        if whiten is not None:
            whiten_layer(model, train, **whiten)
        return model

    def model_arguments(self, train: Dataset) -> dict[str, Any]:
        """Arguments of the model's function except its seed; empty if the recipe has layers.

        Parameters
        ----------
        train : Dataset
            It determines the number of classes.
        """
        table = self._section("model")
        as_dataset("a recipe", train)
        if table.get("name") not in MODELS:
            return {}
        given = {k: v for k, v in table.items() if k not in ("name", *OF_WEIGHTS)}
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
        return {"num_classes": len(train.classes)} | given

    def run(
        self, train: Dataset, test: Dataset | None = None, **others: Any
    ) -> tuple[Model, History]:
        """Train a new network.

        Parameters
        ----------
        train, test : Dataset
            As returned by :meth:`load_data`.
        **others
            Further arguments of :func:`~fastcnn.training.fit`, which override the recipe's options.

        Returns
        -------
        model : Model
        history : History
        """
        seed = others.get("seed")
        model = self.make_model(train, seed)
        return model, fit(model, train, test, **{**self.options.training(), **others})

    def evaluate(self, model: Model, data: Dataset) -> Evaluation:
        """The model's loss, accuracy and outputs, with the recipe's test-time augmentation.

        Parameters
        ----------
        model : Model
        data : Dataset
        """
        return evaluate(model, data, loss=self.options.make_loss(), tta=self.tta)

    def _section(self, name: str) -> Any:
        return self.settings.get(name, {})

    def _preprocessing(self, own: Preprocessing) -> Preprocessing:
        data = self._section("data")
        if "mean" not in data and "std" not in data:
            return own
        return replace(own, mean=data.get("mean", ()), std=data.get("std", ()))

    def _network(self, seed: int | None, arguments: Mapping[str, Any]) -> Model:
        """The network of the description; ``arguments`` are those of a named model."""
        table = {k: v for k, v in self._section("model").items() if k not in OF_WEIGHTS}
        if "layers" in table:
            return from_definition(table, seed)
        if table["name"] not in MODELS:
            return model_of_file(table["name"], seed)
        return MODELS[table["name"]](**arguments, seed=seed)

    def _check_model(self) -> None:
        table = self._section("model")
        name = table.get("name")
        is_file = isinstance(name, str) and name.endswith((".toml", ".json"))
        if (name is None) == ("layers" not in table):
            self._refuse("model needs either a name or layers")
        is_known = isinstance(name, str) and name in MODELS
        if name is not None and not is_known and not is_file:
            self._refuse(f"model must be one of {', '.join(MODELS)}, or a file, got {name!r}")
        initial = table.get("initial")
        if initial is not None and not (isinstance(initial, str) and initial in WEIGHTS):
            self._refuse(f"initial must be one of {', '.join(WEIGHTS)}, got {initial!r}")
        try:
            if is_file:
                return
            given = {k: v for k, v in table.items() if k not in ("name", *OF_WEIGHTS)}
            model = self._network(0, given)
        except TypeError as error:
            self._refuse(f"model: {error}")
        whiten = table.get("whiten")
        if whiten is not None and (
            not isinstance(whiten, Mapping)
            or set(whiten) - {"layer", "images", "eps"}
            or f"{whiten.get('layer')}.weight" not in model.named_parameters()
        ):
            self._refuse(f"whiten must have the name of a layer, got {whiten!r}")
        if whiten is not None:
            as_count(f"recipe {self.name}", "whiten.images", whiten.get("images", 1))
            as_number(f"recipe {self.name}", "whiten.eps", whiten.get("eps", 1.0), above=0.0)

    def _check_argument(self, part: str, table: Mapping[str, Any], name: str) -> None:
        """Refuse an option that the recipe's optimiser, schedule or loss does not have."""
        kinds = {**OBJECTS[part].table, **OBJECTS[part].around}
        known = [each.name for each in fields(kinds[table["name"]])]
        if name not in known:
            self._refuse(
                f"{name} has no effect with its {part} {table['name']}, which has "
                f"{', '.join(known)}"
            )

    def _refuse(self, message: str) -> None:
        raise ConfigurationError(f"recipe {self.name}: {message}")


def check_file_name(path: str | Path) -> None:
    """Refuse a file that would be taken for the name of a recipe."""
    if not str(path).endswith(".toml"):
        raise ConfigurationError(f"a recipe's file must end in .toml, got {path}")


def set_weights(model: Model, weight: init.Initializer, generator: np.random.Generator) -> None:
    """Draw the weights of all convolutions and linear layers, and set their biases to zero."""
    parameters = model.named_parameters()
    for key, value in parameters.items():
        layer, _, part = key.rpartition(".")
        if part == "weight" and value.ndim > 1:
            value[...] = weight(value.shape, generator)
            if f"{layer}.bias" in parameters:
                parameters[f"{layer}.bias"][...] = 0.0


def whiten_layer(
    model: Model, train: Dataset, layer: str, images: int = 5_000, eps: float = 5e-4
) -> None:
    """Set the filters of a convolution to whitening filters for training image patches.

    Images are sampled at equal intervals, since folders of pictures are sorted by class.
    """
    weight = model.named_parameters()[f"{layer}.weight"]
    chosen = np.linspace(0, len(train) - 1, min(images, len(train))).astype(np.int64)
    samples = train.preprocessing.apply(np.ascontiguousarray(train.images[chosen]))
    filters = init.whitening_filters(samples, weight.shape[2], eps)
    if filters.shape != weight.shape:
        raise ConfigurationError(
            f"whiten: {layer}.weight has shape {weight.shape}, patches of these images give "
            f"{filters.shape}"
        )
    weight[...] = filters
