"""A run's ``config.json``: written with a checksum, checked when read, and compared."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any

from fastcnn.errors import CheckpointError, cause, counted
from fastcnn.files import read_bytes

CONFIG = "config.json"
FORMAT = "fastcnn-run-1"
#: Parts of a run's config, in addition to versions and status. They are the same on all processes
#: of a training, and in a resumed run except for those in :data:`FREE`.
PARTS = ("model", "preprocessing", "data", "loss", "optimizer", "schedule", "training")
#: Schedules that do not depend on the number of epochs.
OPEN_ENDED = ("constant", "step", "multi-step")
#: Parts of a config that may change when a run is resumed.
FREE = (
    *("training.epochs", "model.name", "model.arguments"),
    *("data.source", "data.data_dir", "data.validation_split"),
)
#: Number of outputs beyond which a config is considered damaged.
MOST_OUTPUTS = 1 << 24


def config_to_bytes(config: dict[str, Any]) -> bytes:
    """The file's content."""
    whole = {**config, "checksum": _checksum(config)}
    text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    # A file name may have undecodable bytes, which Python represents as lone surrogates.
    return text.encode("utf-8", "backslashreplace")


def read_config(folder: Path) -> dict[str, Any]:
    """The config of the run in a folder.

    Raises CheckpointError if the folder holds no run, or its config is damaged.
    """
    path = folder / CONFIG
    try:
        config = json.loads(read_bytes(path).decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # which of them depends on the system
        if folder.is_file():
            raise CheckpointError(f"{folder} is a file, not the folder of a run") from None
        if not folder.exists():
            raise CheckpointError(f"{folder}: no such folder") from None
        raise CheckpointError(f"{folder} holds no run: {CONFIG} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({cause(error)})") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not the config of a fastcnn run")
    bad = [part for part in PARTS if not isinstance(config.get(part), dict)]
    if bad:
        raise CheckpointError(f"{path} is damaged: it lacks {', '.join(bad)}")
    # A config without a checksum was edited by hand.
    kept = config.pop("checksum", None)
    if kept is not None and kept != _checksum(config):
        raise CheckpointError(
            f"{path} is damaged (its checksum does not match); if you edited it, "
            'remove the line "checksum"'
        )
    for (part, name), kind in VALUES.items():
        value = config[part].get(name)
        fits = isinstance(value, kind) if isinstance(kind, (type, UnionType)) else kind(value)
        if name in config[part] and not fits:
            raise CheckpointError(f"{path} is damaged: {part}.{name} is {value!r:.80}")
    classes, outputs = config["data"].get("classes"), config["model"].get("output_shape")
    if classes and outputs and len(classes) > outputs[0]:
        raise CheckpointError(
            f"{path} is damaged: {counted(len(classes), 'class')}, and outputs of shape {outputs}"
        )
    return config


def _checksum(config: dict[str, Any]) -> str:
    """CRC-32 of a config's values, independent of their order and of white space."""
    plain = json.loads(json.dumps(config))  # as it will be read back
    return f"{zlib.crc32(json.dumps(plain, sort_keys=True).encode()):08x}"


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(size) is int and 1 <= size <= MOST_OUTPUTS for size in value
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


#: Values required for reading a run, and what they may be.
VALUES: dict[tuple[str, str], Callable[[Any], bool] | type | UnionType] = {
    ("model", "name"): str | None,
    ("model", "arguments"): dict,
    ("model", "definition"): dict | None,
    ("model", "input_shape"): _is_shape,
    ("model", "output_shape"): _is_shape,
    ("data", "name"): str,
    ("data", "source"): str | None,
    ("data", "checksum"): str,
    ("data", "test_checksum"): str | None,
    ("data", "classes"): _are_texts,
    ("loss", "name"): str,
    ("optimizer", "name"): str,
    ("schedule", "name"): str,
}


def check_same(saved: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Refuse to resume a run with other settings."""
    now = json.loads(json.dumps(now))
    found = [
        line
        for part in PARTS
        for line in _differences(saved[part], now[part], part)
        if not line.startswith(FREE)
    ]
    before, after = saved["training"].get("epochs"), now["training"].get("epochs")
    schedule = now["schedule"]  # a changed schedule is reported as a difference
    schedule = schedule.get("then", schedule)["name"]
    if before != after and schedule not in OPEN_ENDED:
        found.append(
            f"the schedule {schedule} depends on the number of epochs, which was {before} and is "
            f"now {after}"
        )
    lookahead = now["training"].get("lookahead") or {}
    if before != after and lookahead.get("final_alpha") is not None:
        found.append(
            f"lookahead's alpha depends on the number of epochs, which was {before} and is now "
            f"{after}"
        )
    if found:
        raise CheckpointError(
            f"{folder} cannot be resumed: {'; '.join(sorted(found))}; init= or --init starts a "
            "new run from its weights"
        )


def _differences(saved: Any, now: Any, path: str) -> list[str]:
    """The differences between two configs, in words; only common keys are compared."""
    if isinstance(saved, dict) and isinstance(now, dict):
        return [
            line
            for key in saved.keys() & now.keys()
            for line in _differences(saved[key], now[key], f"{path}.{key}")
        ]
    return [] if saved == now else [f"{path} was {saved!r} and is now {now!r}"]
