"""The digest of a compiled function: everything it reaches, versions, the processor."""

import functools
import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import llvmlite
import numpy as np

from fastcnn.codegen.processor import processor
from fastcnn.codegen.reached import Records
from fastcnn.codegen.simd import FLOAT, VECTOR, emit_call, emit_splat
from fastcnn.extras import numba_version

PACKAGE = "fastcnn"
#: Files that declare and lower functions and make objects: hashed as text, because some of them
#: import numba.
FILES = (
    *("declarations", "entry", "numba_frontend", "numba_operators", "numba_types", "objects"),
    "processor",
)
#: What the frontend uses of other files.
OF_FRONTEND = FLOAT, VECTOR, emit_call, emit_splat
#: When this process began to import the files that it hashes.
STARTED = time.time()
#: Objects that are not fully known, by id; kept, so that their ids are not reused.
_unknown: dict[int, Any] = {}


@functools.cache
def versions() -> str:
    """Versions and the processor, as text."""
    python = f"{sys.implementation.cache_tag} {sys.platform}"
    libraries = numba_version(), llvmlite.__version__, np.__version__
    return " ".join((python, *libraries, *processor()))


@functools.cache
def _file_digest(name: str) -> str:
    path = Path(__file__).with_name(f"{name}.py")
    digest = hashlib.sha256(path.read_bytes())
    if STARTED < path.stat().st_mtime <= time.time():
        # This process may run the file's earlier content: no other process may use its objects.
        digest.update(_of_this_process())
    return digest.hexdigest()


def _of_this_process() -> bytes:
    return f"{os.getpid()} {STARTED}".encode()


def is_own(function: Any) -> bool:
    """Whether a function belongs to the package."""
    return (getattr(function, "__module__", None) or "").split(".")[0] == PACKAGE


def function_digest(function: Any, records: Records | None = None) -> str:
    """Digest of a function and everything it reaches; differs in each process if not fully known.

    Parameters
    ----------
    function : callable
    records : Records, optional
        Shared by several digests, so that common parts are read once.
    """
    records = records or Records()
    digest = hashlib.sha256()
    text, unknown = records.text(getattr(function, "py_func", function), *OF_FRONTEND)
    digest.update(text.encode())
    for name in FILES:
        digest.update(_file_digest(name).encode())
    if unknown:
        digest.update(_of_this_process())
    for record in unknown:
        _unknown[id(record.value)] = record.value
        digest.update(f" {id(record.value)}".encode())
    return digest.hexdigest()
