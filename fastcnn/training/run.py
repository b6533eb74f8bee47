"""The folder of a training run: config, metrics, weights and curves."""

import platform
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import fastcnn
from fastcnn.data.dataset import Dataset
from fastcnn.data.loading import NAMES, load
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import CheckpointError, ConfigurationError, DataError
from fastcnn.extras import numba_version
from fastcnn.files import (
    LOCK_FILE,
    FolderLock,
    atomic_write,
    expanded,
    make_folder,
    remove_unfinished,
)
from fastcnn.layers import Model
from fastcnn.layers.allocation import at_most
from fastcnn.layers.definition import MOST_VALUES, from_definition
from fastcnn.layers.description import file_metadata, to_definition
from fastcnn.losses import NAMED, Loss
from fastcnn.models import MODELS
from fastcnn.training.checkpoints import BEST, LAST
from fastcnn.training.history import read_records
from fastcnn.training.options import TrainingOptions
from fastcnn.training.run_config import CONFIG, FORMAT, config_to_bytes, read_config
from fastcnn.weights import read_weights, weights_to_bytes

METRICS, WEIGHTS, CURVES = "metrics.jsonl", "model.safetensors", "curves.png"
EPOCHS = "epochs.csv"
FILES = (CONFIG, METRICS, EPOCHS, WEIGHTS, CURVES, LAST, BEST)


class Run:
    """A run's folder.

    Attributes
    ----------
    folder : Path
    config : dict
        The model, data and settings; see :func:`describe_fit`.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self.config = config
        self._lock: FolderLock | None = None

    @classmethod
    def create(cls, folder: str | Path, config: dict[str, Any], overwrite: bool = False) -> "Run":
        """Make a run's folder and write its config.

        Parameters
        ----------
        folder : path
        config : dict
            Written to the folder's config.json.
        overwrite : bool
            Whether to replace another run in the folder.

        Raises
        ------
        ConfigurationError
            If the folder is not empty (without ``overwrite``), cannot be written, or another
            training writes to it.
        """
        folder = expanded(folder)
        run = cls(folder, dict(config))
        try:
            make_folder(folder)
            check_free(folder, overwrite)
            run.lock()
            # The config is removed first: until the new one is written, the folder holds no run.
            for name in FILES:
                (folder / name).unlink(missing_ok=True)
            run.save_config()
        except OSError as error:
            raise ConfigurationError(f"{folder} cannot be written ({error.strerror})") from None
        return run

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """Read an existing run's config.

        Parameters
        ----------
        folder : path

        Raises
        ------
        CheckpointError
            If the folder holds no run, or its config is corrupt.
        """
        folder = expanded(folder)
        return cls(folder, read_config(folder))

    def lock(self) -> None:
        """Reserve the folder for this process, and clean up after one that was killed.

        Raises
        ------
        ConfigurationError
            If another process writes to the folder.
        OSError
            If it cannot be read or written.
        """
        if self._lock is not None:
            return
        try:
            self._lock = FolderLock(self.folder)
        except BlockingIOError:
            raise ConfigurationError(
                f"{self.folder} belongs to a run that is still training"
            ) from None
        for name in FILES:
            remove_unfinished(self.folder / name)

    def unlock(self) -> None:
        """Allow other processes to write to the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def save_config(self) -> None:
        """Write the config."""
        atomic_write(self.folder / CONFIG, config_to_bytes(self.config))

    def save_weights(self, model: Model) -> None:
        """Write the model's parameters and buffers as safetensors, under PyTorch's keys.

        Its preprocessing is in the file's metadata.

        Parameters
        ----------
        model : Model
        """
        content = weights_to_bytes(model.state_dict(), file_metadata(model))
        atomic_write(self.folder / WEIGHTS, content)

    def load_model(self) -> Model:
        """The trained model.

        Raises
        ------
        CheckpointError
            If the weights are missing, corrupt or of another model, or the model cannot be rebuilt
            by name.
        """
        state, _ = read_weights(self.folder / WEIGHTS)
        try:
            with at_most(sum(array.size for array in state.values())):
                model = untrained_model(self.config)
        except CheckpointError as error:
            raise CheckpointError(f"{self.folder}: {error}") from None
        model.preprocessing = self.normalisation
        model.predicts = self.config["model"].get("predicts")
        model.load_state_dict(state)
        return model

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; numbers for outputs of which the training data had no name."""
        names = tuple(self.config["data"]["classes"])
        outputs = self.config["model"].get("output_shape", ())
        if len(outputs) != 1:
            return names
        prefix = "output " if names else ""
        return names + tuple(f"{prefix}{index}" for index in range(len(names), outputs[0]))

    @property
    def loss(self) -> Loss:
        """The loss that the model was trained with.

        Raises
        ------
        CheckpointError
            If the config lacks it, or names an unknown loss.
        """
        try:
            return NAMED.from_description(self.config["loss"])
        except (ConfigurationError, AttributeError) as error:
            raise CheckpointError(
                f"{self.folder / CONFIG}: its loss is unknown ({error})"
            ) from None

    @property
    def normalisation(self) -> Preprocessing:
        """The conversion of samples, and pictures, to the network's input.

        Raises
        ------
        CheckpointError
            If the config lacks it.
        """
        try:
            return Preprocessing.from_dict(self.config["preprocessing"])
        except ConfigurationError as error:
            raise CheckpointError(f"{self.folder / CONFIG} is damaged: {error}") from None

    def metrics(self, kind: str = "epoch") -> list[dict[str, Any]]:
        """The records of one kind, ``epoch`` or ``step``.

        Parameters
        ----------
        kind : {"epoch", "step"}
        """
        records = read_records(self.folder / METRICS)
        return [record for record in records if record["kind"] == kind]

    def load_data(self, data_dir: str | Path | None = None) -> tuple[Dataset, Dataset]:
        """Reload the training and test data; pictures are read as in the run.

        Parameters
        ----------
        data_dir : path, optional
            Folder of data sets that are loaded by name.

        Raises
        ------
        ConfigurationError
            If the run was trained on data without a name or path to load them from.
        DataError
            If they no longer exist.
        """
        described, pictures = self.config["data"], self.normalisation.pictures
        source, name = described.get("source"), described["name"]
        if source is None and name not in NAMES:
            raise ConfigurationError(
                f"{self.folder}: trained in Python on {name}, which cannot be reloaded: give "
                "the data with --data"
            )
        data_dir = data_dir or described.get("data_dir")
        try:
            train, test = load(source or name, data_dir=data_dir, pictures=pictures)
        except DataError as error:
            raise type(error)(f"the data of {self.folder}: {error}") from None
        if source is None:
            kept = described.get("test_checksum")
            whole, known = (train, described["checksum"]) if kept is None else (test, kept)
            if checksum(whole) != known:
                raise ConfigurationError(
                    f"{self.folder}: trained in Python on {name}, and the data set of that name "
                    "has other images: give the data with --data"
                )
        return train, test

    def changes(self, test: Dataset) -> str | None:
        """How reloaded test data differ from those of the training; None if they do not.

        Parameters
        ----------
        test : Dataset
            All test data, with all classes of the data set.
        """
        before = self.config["data"].get("test_checksum")
        if before is None or checksum(test) == before:
            return None
        known, now = set(self.config.get("test_files", ())), set(test.files)
        parts = [
            f"{len(names):,} {word} ({', '.join(sorted(names)[:3])}{', ...' * (len(names) > 3)})"
            for word, names in (("new", now - known), ("missing", known - now))
            if known and names
        ]
        return (
            f"warning: the test data have changed since training (checksum {checksum(test)}, then "
            f"{before}): {', '.join(parts) or 'other content'}"
        )


def untrained_model(config: dict[str, Any], seed: int | None = None) -> Model:
    """The model that a run's config describes, with new weights.

    Raises CheckpointError if it has no name or definition from which it can be built.
    """
    described = config.get("model", {})
    name, definition = described.get("name"), described.get("definition")
    try:
        with at_most(MOST_VALUES):
            dtype = described.get("dtype", "float32")
            if name in MODELS:
                return MODELS[name](**described["arguments"]).to(dtype)
            if definition is not None:
                return from_definition(definition, seed).to(dtype)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"the model cannot be built ({error})") from None
    raise CheckpointError(
        f"the model is not one of {', '.join(MODELS)} and has no definition; build it yourself "
        f"and load {WEIGHTS} with load_state_dict"
    )


def check_free(folder: Path, overwrite: bool = False) -> None:
    """Refuse a folder that is not empty."""
    if overwrite or not folder.is_dir():
        return
    if {path.name for path in folder.iterdir()} - {LOCK_FILE}:
        raise ConfigurationError(
            f"{folder} is not empty: choose another or delete it (fastcnn train: --overwrite)"
        )


@dataclass(frozen=True)
class NewRun:
    """Where ``fit`` writes a run, with information that it does not have itself.

    Attributes
    ----------
    folder : Path
    overwrite : bool
        Whether the folder may already hold a run.
    model_name : str or None
        The model's name in :data:`fastcnn.models.MODELS`.
    model_arguments : dict
        The arguments of its function.
    source : dict
        How to reload the data: ``source``, ``data_dir`` and ``validation_split``, as arguments of
        :func:`fastcnn.data.load`.
    init, skip : str or None
        The file of initial weights, and patterns of those left out.
    """

    folder: Path
    overwrite: bool = False
    model_name: str | None = None
    model_arguments: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    init: str | None = None
    skip: str | None = None


def describe_fit(
    model: Model,
    train: Any,
    test: Any,
    preprocessing: Preprocessing,
    options: TrainingOptions,
    out: str | Path | NewRun | None,
) -> dict[str, Any]:
    """The config of a run: everything needed to repeat it and to load its model."""
    new = out if isinstance(out, NewRun) else NewRun(Path())
    outputs = model.output_shape(model.input_shape or train.images.shape[1:])
    return {
        "format": FORMAT,
        "status": "running",
        "model": {
            "name": new.model_name,
            "arguments": new.model_arguments,
            "definition": _definition(model),
            "input_shape": list(model.input_shape or ()),
            "predicts": options.make_loss().predicts(np.asarray(train.labels), outputs),
            "output_shape": list(outputs),
            "parameters": model.num_parameters,
            "dtype": model.dtype.name,
            "layers": {name: repr(layer) for name, layer in model.named_leaves()},
        },
        "preprocessing": preprocessing.to_dict(),
        "data": {
            "name": train.name,
            "source": None,
            **new.source,
            "train_samples": len(train),
            "checksum": checksum(train),
            "test_checksum": None if test is None else checksum(test),
            "classes": list(train.classes),
        },
        "test_files": list(getattr(test, "files", ())),
        **options.config(),
        "initial_weights": None if new.init is None else {"file": new.init, "skip": new.skip},
        "versions": {
            "fastcnn": fastcnn.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba_version(),
        },
    }


#: Images included in a checksum: all of a large set would take longer than an epoch.
CHECKED_IMAGES = 2048


def _definition(model: Model) -> dict[str, Any] | None:
    """The model's definition, if it has one, without its preprocessing, recorded separately."""
    try:
        definition = to_definition(model)
    except ConfigurationError:
        return None
    for name in ("preprocessing", "predicts"):
        definition.pop(name, None)
    return definition


def checksum(data: Any, images: int | None = CHECKED_IMAGES) -> str:
    """CRC-32 of about ``images`` evenly spaced images (None: all), all labels and all weights."""
    step = 1 if images is None else max(1, len(data) // images)
    parts = [data.images[::step], data.labels, getattr(data, "sample_weight", None)]
    value = 0
    for part in parts:
        if part is not None:
            value = zlib.crc32(np.ascontiguousarray(part).data, value)
    return f"{value:08x}"
