"""A run's ``config.json``: written with a checksum, and checked when it is read."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastcnn.errors import CheckpointError
from fastcnn.files import read_bytes

CONFIG = "config.json"
FORMAT = "fastcnn-run-1"
#: What a run's config holds, in addition to its versions and its status.
PARTS = ("model", "preprocessing", "data", "loss", "optimizer", "schedule", "training")
#: Outputs of a network beyond which a config is not believed.
MOST_OUTPUTS = 1 << 24


def config_to_bytes(config: dict[str, Any]) -> bytes:
    """The file's content."""
    whole = {**config, "checksum": _checksum(config)}
    text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    # A file's name may have bytes that are not text, which Python keeps as half characters.
    return text.encode("utf-8", "backslashreplace")


def read_config(folder: Path) -> dict[str, Any]:
    """The config of the run in a folder.

    Raises
    ------
    CheckpointError
        If the folder holds no run, or its config is damaged.
    """
    path = folder / CONFIG
    try:
        config = json.loads(read_bytes(path).decode("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no run: {CONFIG} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not the config of a fastcnn run")
    bad = [part for part in PARTS if not isinstance(config.get(part), dict)]
    if bad:
        raise CheckpointError(f"{path} is damaged: it lacks {', '.join(bad)}")
    # A config without a checksum was edited by hand.
    kept = config.pop("checksum", None)
    if kept is not None and kept != _checksum(config):
        raise CheckpointError(
            f"{path} is damaged (its checksum does not fit); if you edited it, "
            'remove the line "checksum"'
        )
    for (part, name), fits in VALUES.items():
        if name in config[part] and not fits(config[part][name]):
            value = repr(config[part][name])
            raise CheckpointError(f"{path} is damaged: {part}.{name} is {value[:80]}")
    classes, outputs = config["data"].get("classes"), config["model"].get("output_shape")
    if classes and outputs and len(classes) > outputs[0]:
        raise CheckpointError(
            f"{path} is damaged: {len(classes)} classes, and outputs of shape {outputs}"
        )
    return config


def _checksum(config: dict[str, Any]) -> str:
    """CRC-32 of a config's values, whatever their order and the spaces between them."""
    plain = json.loads(json.dumps(config))  # as it will be read
    return f"{zlib.crc32(json.dumps(plain, sort_keys=True).encode()):08x}"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(size) is int and 1 <= size <= MOST_OUTPUTS for size in value
    )


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


#: Values on which reading a run depends, and what they may be.
VALUES: dict[tuple[str, str], Callable[[Any], bool]] = {
    ("model", "name"): _is_text_or_none,
    ("model", "arguments"): _is_table,
    ("model", "definition"): lambda value: value is None or isinstance(value, dict),
    ("model", "input_shape"): _is_shape,
    ("model", "output_shape"): _is_shape,
    ("data", "name"): _is_text,
    ("data", "source"): _is_text_or_none,
    ("data", "checksum"): _is_text,
    ("data", "test_checksum"): _is_text_or_none,
    ("data", "classes"): _are_texts,
    ("loss", "name"): _is_text,
    ("optimizer", "name"): _is_text,
    ("schedule", "name"): _is_text,
}
