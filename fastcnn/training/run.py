"""The folder that a training run leaves: config, metrics, weights and a picture of its curves."""

import json
import platform
import time
import zlib
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np

import fastcnn
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import CheckpointError, ConfigurationError, RunWriteError
from fastcnn.files import LOCK_FILE, FolderLock, atomic_write, expanded, remove_unfinished
from fastcnn.layers import Model
from fastcnn.layers.definition import from_definition, to_definition
from fastcnn.models import MODELS
from fastcnn.training.callbacks import Callback, Steps, TrainingStart
from fastcnn.training.history import History, read_records
from fastcnn.training.samples import training_preprocessing
from fastcnn.training.saver import AFTER_EPOCH, BEST, LAST, writing
from fastcnn.weights import read_weights, weights_to_bytes

CONFIG, METRICS, WEIGHTS, CURVES = "config.json", "metrics.jsonl", "model.safetensors", "curves.png"
EPOCHS = "epochs.csv"
FILES = (CONFIG, METRICS, EPOCHS, WEIGHTS, CURVES, LAST, BEST)
#: What a run's config holds, beside its versions and its status.
PARTS = ("model", "preprocessing", "data", "loss", "optimizer", "schedule", "training")


class Run:
    """A run's folder.

    Attributes
    ----------
    folder : Path
    config : dict
        What was trained, on what and how; see :func:`describe_fit`.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self.config = config
        self._lock: FolderLock | None = None

    @classmethod
    def create(cls, folder: str | Path, config: dict[str, Any], overwrite: bool = False) -> "Run":
        """Make a run's folder and write its config.

        Raises
        ------
        ConfigurationError
            If the folder holds something already (and not ``overwrite``), cannot be written, or
            another training writes to it.
        """
        folder = expanded(folder)
        run = cls(folder, dict(config))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if {path.name for path in folder.iterdir()} - {LOCK_FILE} and not overwrite:
                raise ConfigurationError(
                    f"{folder} is not empty: choose another folder or overwrite it (--overwrite)"
                )
            run.lock()
            # The config goes first: until the new one is there, the folder holds no run.
            for name in FILES:
                (folder / name).unlink(missing_ok=True)
            run.save_config()
        except OSError as error:
            raise ConfigurationError(f"{folder} cannot be written ({error.strerror})") from None
        return run

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """Read an existing run's config.

        Raises
        ------
        CheckpointError
            If the folder holds no run, or its config is corrupt.
        """
        folder = expanded(folder)
        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckpointError(f"{folder} holds no run: {CONFIG} is missing") from None
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder / CONFIG} cannot be read ({error})") from None
        if not isinstance(config, dict) or config.get("format") != "fastcnn-run-1":
            raise CheckpointError(f"{folder / CONFIG} is not the config of a fastcnn run")
        bad = [part for part in PARTS if not isinstance(config.get(part), dict)]
        if bad:
            raise CheckpointError(f"{folder / CONFIG} is damaged: it lacks {', '.join(bad)}")
        # Whoever edits a config removes its checksum.
        kept = config.pop("checksum", None)
        if kept is not None and kept != _text_checksum(config):
            raise CheckpointError(
                f"{folder / CONFIG} is damaged (its checksum does not fit); if you edited it, "
                'remove the line "checksum"'
            )
        return cls(folder, config)

    def lock(self) -> None:
        """Keep the folder for this process, and clean up after one that was killed.

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
                f"{self.folder} belongs to a training that is still going on"
            ) from None
        for name in FILES:
            remove_unfinished(self.folder / name)

    def unlock(self) -> None:
        """Let others write to the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def save_config(self) -> None:
        """Write the config."""
        whole = {**self.config, "checksum": _text_checksum(self.config)}
        content = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
        atomic_write(self.folder / CONFIG, content.encode())

    def save_weights(self, model: Model) -> None:
        """Write the model's parameters and buffers as safetensors, under PyTorch's keys.

        Its preprocessing is in the file's metadata.
        """
        content = weights_to_bytes(model.state_dict(), model.preprocessing.to_metadata())
        atomic_write(self.folder / WEIGHTS, content)

    def load_model(self) -> Model:
        """The trained model.

        Raises
        ------
        CheckpointError
            If the weights are missing, corrupt or another model's, or the model has no name that
            it could be rebuilt from.
        """
        described = self.config.get("model", {})
        name, definition = described.get("name"), described.get("definition")
        if name not in MODELS and definition is None:
            raise CheckpointError(
                f"{self.folder}: the model is not one of {', '.join(MODELS)} and has no "
                f"definition; build it yourself and load {WEIGHTS} with load_state_dict"
            )
        try:
            if name in MODELS:
                model = MODELS[name](**described["arguments"])
            else:
                model = from_definition(definition)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self.folder}: cannot be loaded ({error})") from None
        state, _ = read_weights(self.folder / WEIGHTS)
        model.load_state_dict(state)
        model.preprocessing = self.preprocessing
        return model

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.config["data"]["classes"])

    @property
    def preprocessing(self) -> Preprocessing:
        """How samples become the network's input.

        Raises
        ------
        CheckpointError
            If the config does not say so.
        """
        try:
            return Preprocessing.from_dict(self.config["preprocessing"])
        except ConfigurationError as error:
            raise CheckpointError(f"{self.folder / CONFIG} is damaged: {error}") from None

    def metrics(self, kind: str = "epoch") -> list[dict[str, Any]]:
        """The records of one kind, ``epoch`` or ``step``."""
        records = read_records(self.folder / METRICS)
        return [record for record in records if record["kind"] == kind]

    def recorder(self) -> Callback:
        """The callback that fills the folder while training goes on."""
        return _Recorder(self)


class _Recorder(Callback):
    def __init__(self, run: Run) -> None:
        self.run = run
        self.file: TextIO | None = None
        self.model: Model | None = None
        self.history = History()
        self.saved = 0.0

    def on_train_begin(self, start: TrainingStart) -> None:
        resumed = bool(start.history.steps)
        self.model = start.model
        self.history = start.history
        with writing(self.run.folder):
            self.file = (self.run.folder / METRICS).open("a" if resumed else "w", encoding="utf-8")
            self._save(start.model)

    def on_steps(self, steps: Steps) -> None:
        first = steps.step - len(steps.losses) + 1
        records = []
        for index, (loss, lr) in enumerate(zip(steps.losses, steps.learning_rates, strict=True)):
            record = {"kind": "step", "epoch": steps.epoch, "step": first + index,
                      "loss": loss, "lr": lr}  # fmt: skip
            records.append(record)
        self._append(records)

    def on_epoch_end(self, epoch: dict[str, Any], model: Model) -> None:
        self._append([epoch])
        if time.monotonic() - self.saved >= AFTER_EPOCH:
            with writing(self.run.folder):
                self._save(model)

    def _append(self, records: list[dict[str, Any]]) -> None:
        assert self.file is not None
        with writing(self.run.folder):
            self.file.writelines(json.dumps(record) + "\n" for record in records)
            self.file.flush()

    def _save(self, model: Model) -> None:
        atomic_write(self.run.folder / EPOCHS, self.history.to_csv().encode())
        self.run.save_weights(model)
        self.saved = time.monotonic()

    def on_train_end(self, history: History) -> None:
        if self.file is None or self.model is None:
            return
        # The disk that is full now may be what has ended the training: that error counts.
        failed = history.status == "failed"
        with suppress(RunWriteError) if failed else nullcontext(), writing(self.run.folder):
            self._finish(history)

    def _finish(self, history: History) -> None:
        assert self.file is not None
        assert self.model is not None
        self.file.close()
        self._save(self.model)
        self.run.config["status"] = history.status
        self.run.config["findings"] = [asdict(finding) for finding in history.findings]
        self.run.save_config()
        from fastcnn.training.curves import curves_figure, save_figure

        save_figure(curves_figure(history), self.run.folder / CURVES)


def describe_fit(
    model: Model,
    data: Any,
    loss: Any,
    optimizer: Any,
    schedule: Any,
    *,
    test: Any = None,
    data_source: str | None = None,
    model_name: str | None = None,
    model_arguments: dict[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """The config of a run: everything needed to repeat it and to load its model."""
    import numba

    return {
        "format": "fastcnn-run-1",
        "status": "running",
        "model": {
            "name": model_name,
            "arguments": model_arguments or {},
            "definition": _definition(model),
            "input_shape": list(model.input_shape or ()),
            "parameters": model.num_parameters,
            "layers": {name: repr(layer) for name, layer in model.named_leaves()},
        },
        "preprocessing": training_preprocessing(model, data).to_dict(),
        "data": {
            "name": data.name,
            "source": data_source,
            "train_samples": len(data),
            "checksum": checksum(data),
            "test_checksum": None if test is None else checksum(test),
            "classes": list(data.classes),
        },
        "loss": {"name": loss.operation, **loss.arguments},
        "optimizer": {"name": optimizer.kind, **asdict(optimizer)},
        "schedule": {"name": type(schedule).__name__, **asdict(schedule)},
        "training": settings,
        "versions": {
            "fastcnn": fastcnn.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
        },
    }


def _text_checksum(config: dict[str, Any]) -> str:
    """CRC-32 of a config's values, whatever their order and the spaces between them."""
    plain = json.loads(json.dumps(config))  # as it will be read
    return f"{zlib.crc32(json.dumps(plain, sort_keys=True).encode()):08x}"


#: Images that a checksum reads: all of a large set would take longer than an epoch.
CHECKED_IMAGES = 2048


def _definition(model: Model) -> dict[str, Any] | None:
    """The model as plain data, where it has such a form; its preprocessing is a part of its own."""
    try:
        definition = to_definition(model)
    except ConfigurationError:
        return None
    definition.pop("preprocessing", None)
    return definition


def checksum(data: Any, images: int | None = CHECKED_IMAGES) -> str:
    """CRC-32 of evenly spaced images, all labels and all weights, as eight hexadecimal digits.

    Parameters
    ----------
    images : int or None
        About how many images to read; None for all.
    """
    step = 1 if images is None else max(1, len(data) // images)
    parts = [data.images[::step], data.labels, getattr(data, "sample_weight", None)]
    value = 0
    for part in parts:
        if part is not None:
            value = zlib.crc32(np.ascontiguousarray(part).data, value)
    return f"{value:08x}"
