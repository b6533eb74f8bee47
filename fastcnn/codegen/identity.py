"""What a compiled function depends on: a digest of all sources, versions and the processor.

Found without importing what is hashed: imports are read from the text of each file.
"""

import functools
import hashlib
import os
import re
import sys
import time
import types
from pathlib import Path
from typing import Any

import llvmlite

from fastcnn.codegen.processor import processor
from fastcnn.extras import numba_version

PACKAGE = "fastcnn"
ROOT = Path(__file__).resolve().parents[2]
#: Always linked: how functions are declared, lowered and made objects of.
CODEGEN = "fastcnn.codegen.numba_frontend", "fastcnn.codegen.objects"
#: When this process began to import what it hashes.
STARTED = time.time()
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(fastcnn[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)"
    r"|import[ \t]+(fastcnn[\w.]*))",
    re.MULTILINE,
)
#: What type checkers alone read is not linked.
_FOR_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+[^\n]*\n|\n)*", re.MULTILINE)


@functools.cache
def versions() -> str:
    """Versions and the processor."""
    python = f"{sys.implementation.cache_tag} {sys.platform}"
    return " ".join((python, numba_version(), llvmlite.__version__, *processor()))


def module_digest(name: str) -> str:
    """Digest of a module of the package and of all that it imports from the package."""
    digest = hashlib.sha256()
    for found in sorted(_reached(name)):
        digest.update(f"{found} {_file_digest(found)}\n".encode())
    return digest.hexdigest()


def _reached(name: str) -> set[str]:
    reached: set[str] = set()
    waiting = [name, *CODEGEN]
    while waiting:
        module = waiting.pop()
        if module not in reached and _path(module):
            reached.add(module)
            waiting += _imports(module)
    return reached


@functools.cache
def _path(module: str) -> Path | None:
    """A module's file; packages' own are left out: they only gather names."""
    path = f"{ROOT}/{module.replace('.', '/')}.py"
    return Path(path) if os.path.isfile(path) else None


@functools.cache
def _text(module: str) -> str:
    path = _path(module)
    return path.read_text(encoding="utf-8") if path else ""


@functools.cache
def _file_digest(module: str) -> str:
    digest, path = hashlib.sha256(_text(module).encode()), _path(module)
    if path and STARTED < path.stat().st_mtime <= time.time():
        # This process may run what the file held before: nobody else gets what it compiles.
        digest.update(f"{os.getpid()} {STARTED}".encode())
    return digest.hexdigest()


@functools.cache
def _imports(module: str) -> list[str]:
    found = []
    for base, names, plain in _IMPORT.findall(_FOR_TYPES.sub("", _text(module))):
        found.append(base or plain)
        found += [f"{base}.{name}" for name in re.findall(r"\w+", re.sub(r"#.*", "", names))]
    return found


def is_own(function: Any) -> bool:
    """Whether a function is one of the package's."""
    return (getattr(function, "__module__", None) or "").split(".")[0] == PACKAGE


def function_digest(function: Any) -> str:
    """Digest of a function, and of the functions and numbers that it uses.

    The package's functions are known by their files, all others by their code.
    """
    digest = hashlib.sha256()
    _add(digest, function, set())
    return digest.hexdigest()


def _add(digest: Any, value: Any, seen: set[int]) -> None:
    value = getattr(value, "py_func", getattr(value, "function", value))
    if id(value) in seen:
        return
    seen.add(id(value))
    module = getattr(value, "__module__", None) or ""
    if not isinstance(value, types.FunctionType):
        if isinstance(value, types.ModuleType):
            digest.update(f"module {value.__name__}".encode())
        elif module.split(".")[0] == PACKAGE:
            digest.update(module_digest(module).encode())
        else:
            digest.update(repr(value).encode())
        return
    if module.split(".")[0] == PACKAGE:
        digest.update(f"{value.__qualname__} {module_digest(module)}".encode())
    else:
        _add_code(digest, value.__code__)
        names = [name for name in value.__code__.co_names if name in value.__globals__]
        for name in names:
            digest.update(name.encode())
            _add(digest, value.__globals__[name], seen)
    for cell in value.__closure__ or ():
        _add(digest, cell.cell_contents, seen)


def _add_code(digest: Any, code: types.CodeType) -> None:
    digest.update(code.co_code + repr((code.co_names, code.co_varnames)).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _add_code(digest, constant)
        else:
            digest.update(repr(constant).encode())
