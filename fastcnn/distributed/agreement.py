"""Checks that all processes of a training run have the same code, data and settings."""

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

import fastcnn
from fastcnn.distributed.world import World
from fastcnn.errors import RankError
from fastcnn.extras import numba_version

#: Maximum number of differences that a message names.
NAMED = 5


def check_agreement(world: World, **parts: Any) -> None:
    """Refuse to train if a process has other code, data or settings than the root.

    Parameters
    ----------
    world : World
    **parts
        Nested dicts of JSON values, which must be equal on every process.

    Raises
    ------
    RankError
        On every process; the message names each rank that differs, and how.
    """
    known = world.everyone(_flat({"code": code_digest(), **parts}))
    hosts = world.everyone(world.host)
    problems = []
    for rank, theirs in enumerate(known):
        different = [
            f"{name} {theirs.get(name)!r} instead of {known[0].get(name)!r}"
            for name in sorted(known[0].keys() | theirs.keys())
            if theirs.get(name) != known[0].get(name)
        ]
        if different:
            more = ", ..." if len(different) > NAMED else ""
            problems.append(
                f"rank {rank} on {hosts[rank]} has {', '.join(different[:NAMED])}{more}"
            )
    if problems:
        world.known_error = RankError(
            "the processes differ, compared with rank 0: " + "; ".join(problems)
        )
        raise world.known_error


@functools.cache
def code_digest() -> str:
    """A digest of the package's sources and of the versions that results depend on."""
    digest = hashlib.sha256(f"{fastcnn.__version__} {np.__version__} {numba_version()}".encode())
    folder = Path(fastcnn.__file__).parent
    for source in sorted(folder.rglob("*.py")):
        digest.update(str(source.relative_to(folder)).encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Leaves of nested dicts by their path."""
    if not isinstance(value, dict):
        return {name: value}
    return {
        path: leaf
        for key, inner in value.items()
        for path, leaf in _flat(inner, f"{name}.{key}" if name else str(key)).items()
    }
