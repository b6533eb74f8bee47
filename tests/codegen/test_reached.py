"""Keys of compiled functions: an edit changes the keys of exactly the functions that reach it."""

import ctypes
import functools
import math
import os
import subprocess
import sys
import types
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llvmlite import ir

from fastcnn.backends.lanes.kernel_table import all_sources
from fastcnn.codegen import build, elementary, identity, linked
from fastcnn.codegen.build import Source
from fastcnn.codegen.entry import ArgumentEntry
from fastcnn.codegen.identity import function_digest
from fastcnn.codegen.reached import Record, Records

HELPERS = """
from fastcnn.codegen import linked

SCALE = 2.0
UNUSED = 1.0

@linked
def doubled(x):
    return x + x

@linked
def halved(x):
    return x / SCALE

@linked
def unused(x):
    return x
"""
KERNELS = '''
import math
import numpy as np
from fastcnn.codegen import linked, simd
from fastcnn.codegen.emitter import tile
from llvmlite import ir
import helpers_of_test as helpers
from helpers_of_test import halved

LIMIT = 3
TABLE = np.arange(2000.0)
CHOICES = {"low": (1, 2.5), "high": (3, 4.5)}
LANES = ir.Constant(ir.IntType(32), 16)

class Box:
    side = 3
    def __init__(self, size):
        self.size = size
    def area(self):
        return self.size * self.side
    @property
    def edge(self):
        return self.side

BOX = Box(5)

def first(x):
    """Doubles."""
    for i in range(x.size):
        x[i] = helpers.doubled(x[i])

def second(x):
    x[0] = halved(x[0]) + LIMIT

def third(x):
    x[0] = min(x[0], LIMIT)

def fourth(x):
    x[0] = TABLE[1500]

def made(number):
    @linked
    def inside(x, by=4):
        return x * number + by
    def kernel(x):
        x[0] = inside(x[0])
    return kernel

fifth = made(7)

@tile(1)
def box_tile(at, SIZE, X, x0):
    which = [name for name in ("low", "high") if CHOICES[name][0] < SIZE]
    at.builder.store(ir.Constant(ir.FloatType(), BOX.area()), at.pointer(X, x0))

def sixth(x):
    box_tile(2, x, 0)

def seventh(x):
    x[0] = np.exp(x[0]) + math.pi

def eighth(x):
    simd.store(x, 0, simd.load(x, 0))
'''
NAMES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def module_of(name: str, text: str) -> types.ModuleType:
    module = types.ModuleType(name)
    exec(compile(text, f"{name}.py", "exec"), vars(module))
    return module


def kernels_of(
    monkeypatch: pytest.MonkeyPatch, kernels: str = KERNELS, helpers: str = HELPERS
) -> types.ModuleType:
    monkeypatch.setitem(sys.modules, "helpers_of_test", module_of("helpers_of_test", helpers))
    return module_of("kernels_of_test", kernels)


def keys_of(module: types.ModuleType) -> dict[str, str]:
    return {name: function_digest(getattr(module, name)) for name in NAMES}


def unknown_in(value: Any) -> list[str]:
    return [record.unknown for record in Records().text(value)[1]]


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("x[i] = helpers.doubled(x[i])", "x[i] = helpers.doubled(x[i]) * 2", "first"),
        ("return x + x", "return 2 * x", "first"),
        ("return x / SCALE", "return x // SCALE", "second"),
        ("SCALE = 2.0", "SCALE = 2", "second"),
        ("SCALE = 2.0", "SCALE = 4.0", "second"),
        ("LIMIT = 3", "LIMIT = 4", "second third"),
        ("LIMIT = 3", "LIMIT = np.int64(3)", "second third"),
        ("LIMIT = 3", "LIMIT = True", "second third"),
        # repr does not show this many elements.
        ("np.arange(2000.0)", "np.arange(2000.0) + (np.arange(2000) == 1500)", "fourth"),
        ("np.arange(2000.0)", "np.arange(2000.0).astype(np.float32)", "fourth"),
        ("TABLE[1500]", "TABLE[1501]", "fourth"),
        ("made(7)", "made(8)", "fifth"),
        ("made(7)", "made(-7)", "fifth"),
        ("by=4", "by=5", "fifth"),
        ("x * number + by", "x * number - by", "fifth"),
        ("self.size * self.side", "self.size + self.side", "sixth"),
        ("return self.side", "return -self.side", "sixth"),
        ("side = 3", "side = 4", "sixth"),
        ("Box(5)", "Box(6)", "sixth"),
        ("(3, 4.5)", "(3, 4.25)", "sixth"),
        ("< SIZE", "<= SIZE", "sixth"),
        ("box_tile(2, x, 0)", "box_tile(3, x, 0)", "sixth"),
        ("np.exp", "np.expm1", "seventh"),
        ("simd.load(x, 0)", "simd.splat(x[0])", "eighth"),
        # A global of the same name hides the built-in function.
        ("LIMIT = 3", "LIMIT = 3\n@linked\ndef min(x, y):\n    return x", "third"),
        # The same name, another function.
        ("def third(x):", "def third(x):\n    halved = LIMIT\n    x[0] = halved", "third"),
        ("def first(x):", "@linked\ndef halved(x):\n    return x\ndef first(x):", "second"),
        # Edits that do not affect compiled code.
        ("def first(x):", "# A remark.\n\n\ndef first(x):", ""),
        ('"""Doubles."""', '"""Doubles each number."""', ""),
        ("UNUSED = 1.0", "UNUSED = 2.0", ""),
        ("    return x\n", "    return -x\n", ""),
        ("LANES = ir.Constant(ir.IntType(32), 16)", "LANES = 3", ""),
    ],
)
def test_an_edit_concerns_those_that_reach_it(
    monkeypatch: pytest.MonkeyPatch, old: str, new: str, changed: str
) -> None:
    before = keys_of(kernels_of(monkeypatch))
    if old in HELPERS:
        assert HELPERS.count(old) == 1
        after = keys_of(kernels_of(monkeypatch, helpers=HELPERS.replace(old, new)))
    else:
        assert KERNELS.count(old) == 1
        after = keys_of(kernels_of(monkeypatch, KERNELS.replace(old, new)))
    assert [name for name in NAMES if after[name] != before[name]] == changed.split()


def test_all_of_these_kernels_are_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise their keys would be specific to this process."""
    module = kernels_of(monkeypatch)
    assert not any(unknown_in(getattr(module, name)) for name in NAMES)


def test_editing_one_function_of_a_file_compiles_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path))

    def start(text: str) -> list[str]:
        """The names of what a new process compiles."""
        module = kernels_of(monkeypatch, text)
        sources = [
            Source(getattr(module, name), ArgumentEntry(f"reached_{name}", ("float64[:]",)))
            for name in ("first", "second", "third")
        ]
        for source in sources:
            build._addresses.pop(source.name, None)
        before = len(build.report.compiled)
        # Loaded functions would not be loaded again.
        monkeypatch.setattr("fastcnn.codegen.objects.load", lambda name, content: 1)
        build.addresses(sources)
        return build.report.compiled[before:]

    assert sorted(start(KERNELS)) == ["reached_first", "reached_second", "reached_third"]
    assert start(KERNELS) == []
    assert start(KERNELS.replace("min(x[0], LIMIT)", "max(x[0], LIMIT)")) == ["reached_third"]
    assert start("# Another remark.\n" + KERNELS) == []
    assert start(KERNELS.replace("halved(x[0])", "halved(-x[0])")) == ["reached_second"]


def test_strings_that_begin_a_comprehension_are_no_docstrings() -> None:
    def names(which: str) -> Any:
        text = f"def kernel(x):\n    return [{which!r} for _ in range(x)]"
        return module_of("kernels_of_test", text).kernel

    assert function_digest(names("a")) != function_digest(names("b"))

    def lambdas(which: str) -> Any:
        return module_of("kernels_of_test", f"kernel = lambda: {which!r}").kernel

    assert function_digest(lambdas("a")) != function_digest(lambdas("b"))


def test_a_docstring_that_is_also_used_counts() -> None:
    def kernel(which: str) -> Any:
        text = f"def kernel():\n    {which!r}\n    return {which!r}"
        return module_of("kernels_of_test", text).kernel

    assert function_digest(kernel("a")) != function_digest(kernel("b"))


@pytest.mark.parametrize("count", [3, 300])
def test_many_names_in_one_function(count: int) -> None:
    """Indices of names above 255 need an additional instruction."""

    def kernel(last: float) -> Any:
        lines = [f"number{i} = {i}" for i in range(count)]
        lines[-1] = f"number{count - 1} = {last}"
        total = " + ".join(f"number{i}" for i in range(count))
        text = "\n".join([*lines, "def kernel():", f"    return {total}"])
        return module_of("kernels_of_test", text).kernel

    assert function_digest(kernel(1.0)) == function_digest(kernel(1.0))
    assert function_digest(kernel(1.0)) != function_digest(kernel(2.0))


def function_with(**names: Any) -> Any:
    """A function that reads the global ``value``."""
    module = module_of("kernels_of_test", "def kernel(x):\n    return value(x)")
    vars(module).update(names)
    return module.kernel


class Pair(tuple):
    __slots__ = ()


class Slotted:
    __slots__ = "number"

    def __init__(self, number: int) -> None:
        self.number = number


class Frozen(dict):
    pass


class Shadowing(Slotted):
    __slots__ = "number"


def shadowing(number: int) -> Shadowing:
    made = Shadowing(0)
    vars(Slotted)["number"].__set__(made, number)
    return made


def added(x: float, y: float) -> float:
    return x + y


def with_attribute(number: int) -> Any:
    def function() -> int:
        return function.number  # type: ignore[attr-defined,no-any-return]

    function.number = number  # type: ignore[attr-defined]
    return function


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.0, -0.0),
        (1, True),
        (1, 1.0),
        ((1, 2), [1, 2]),
        (((1,), 2), (1, (2,))),
        ({"a": 1}, {"a": 2}),
        ({1, 2}, {1, 3}),
        (frozenset("ab"), frozenset("ac")),
        (np.float32(1), np.float64(1)),
        (np.zeros(3), np.zeros((3, 1))),
        (np.zeros((2, 3)), np.zeros((3, 2)).T),
        (np.zeros(2, "i4,f4"), np.zeros(2, "f4,i4")),
        (Pair((1, 2)), Pair((1, 3))),
        (Slotted(1), Slotted(2)),
        (functools.partial(added, 1.0), functools.partial(added, 2.0)),
        (functools.cache(added), functools.cache(lambda x, y: x - y)),
        (with_attribute(1), with_attribute(2)),
        ([10**5000], [10**5000 + 1]),
        (Slotted(1).__init__, Slotted(2).__init__),  # type: ignore[misc]
        (shadowing(1), shadowing(2)),
        (field(metadata={"number": 1}), field(metadata={"number": 2})),
    ],
)
def test_values_that_differ(one: Any, other: Any) -> None:
    assert unknown_in(function_with(value=one)) == []
    assert function_digest(function_with(value=one)) == function_digest(function_with(value=one))
    assert function_digest(function_with(value=one)) != function_digest(function_with(value=other))


class OfArrays(np.ndarray):
    pass


class OfNumber(np.float64):
    factor = 2


def of_module(made: type, name: str) -> type:
    made.__module__ = name
    return made


@pytest.mark.parametrize(
    "value",
    [
        np,
        object(),
        iter([1]),
        Frozen(a=1),
        np.array([object()]),
        np.zeros(2).view(OfArrays),
        np.frompyfunc(added, 2, 1),
        np.random.default_rng(0),
        {added},
        [1, (2, object())],
        functools.partial(added, object()),
        sys.stdout.write,
        OfNumber(1.0),
        types.new_class("Made"),
        of_module(make_dataclass("Made", [("number", int, 1)]), "types"),
        ir.Context().get_identified_type("pair"),
        ir.Context().get_identified_type("pair").as_pointer(),
    ],
)
def test_what_is_not_known_in_full_is_of_this_process(
    value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unknown_in(function_with(value=value))
    here = function_digest(function_with(value=value))
    monkeypatch.setattr(identity, "STARTED", 1.0)
    assert function_digest(function_with(value=value)) != here


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (math.sqrt.__call__, math.exp.__call__),
        (np.frompyfunc(added, 2, 1), np.frompyfunc(divmod, 2, 1)),
        (np.dtype([("a", "i4")]), np.dtype([("a", "i8")])),
        (ctypes.c_int(3), ctypes.c_int(4)),
        (types.SimpleNamespace(a=1), types.SimpleNamespace(a=2)),
        (slice(1), slice(2)),
    ],
)
def test_what_is_not_known_in_full_differs_from_others(one: Any, other: Any) -> None:
    """Functions of users have part of the digest in their symbols."""
    assert unknown_in(function_with(value=one))
    first = function_digest(function_with(value=one))
    assert first != function_digest(function_with(value=other))


def test_objects_of_a_type_that_another_library_made_in_c() -> None:
    """Their contents are not in readable attributes."""
    torch = pytest.importorskip("torch")
    here, other = (function_with(value=torch.device(name)) for name in ("cpu", "meta"))
    assert function_digest(here) != function_digest(other)


def test_a_module_of_the_user_that_is_called_as_one_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script's folder is searched first, so its name says nothing about its contents."""
    from fastcnn.codegen import reached

    def digest(number: int) -> str:
        module = module_of("colorsys", "def value(x): return x * NUMBER")
        vars(module).update(NUMBER=number, __file__=str(tmp_path / "colorsys.py"))
        monkeypatch.setitem(sys.modules, "colorsys", module)
        reached._is_known_by_name.cache_clear()
        assert unknown_in(function_with(value=module.value)) == []
        return function_digest(function_with(value=module.value))

    try:
        assert digest(1) == digest(1)
        assert digest(1) != digest(2)
    finally:
        reached._is_known_by_name.cache_clear()


@pytest.mark.parametrize(
    "line",
    [
        "return globals()['y'](x)",
        "import math; return math.exp(x)",
        "return eval('x')",
        "return other(np)",
        "n = np; return n.exp(x)",
        "return os.environ['X']",
        "return [globals() for _ in x]",
        "global y; y = x",
        "return (lambda: np)().exp(x)",
        "return other.__doc__",
        "return other.__annotations__['x']",
        "return x.__globals__['y']",
    ],
)
def test_functions_that_may_read_what_they_do_not_name(line: str) -> None:
    text = f"import os\nimport numpy as np\ndef other(x): return x\ndef kernel(x):\n    {line}"
    assert unknown_in(module_of("kernels_of_test", text).kernel)


def test_cycles_end() -> None:
    text = "def odd(x): return x > 0 and even(x - 1)\ndef even(x): return x == 0 or odd(x - 1)"
    module = module_of("kernels_of_test", text)
    module.odd.itself = module.odd
    assert unknown_in(module.odd) == []


def test_a_function_that_takes_the_name_of_one_of_numpy() -> None:
    """It is identified by its code."""
    one, other = (functools.wraps(np.exp)(lambda x, by=by: x * by) for by in (1, 2))
    assert function_digest(function_with(value=one)) != function_digest(function_with(value=other))


def test_functions_of_numpy_are_those_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastcnn.codegen import reached

    function = function_with(value=np.tanh)
    before = function_digest(function)
    monkeypatch.setitem(reached.OF_NUMPY, np.tanh, (added, 1))
    assert function_digest(function) != before


def test_what_the_frontend_takes_from_the_package_is_part_of_keys() -> None:
    """Its own text is part of the key; its imports must be known, too."""
    folder = Path(identity.__file__).parent
    imports = [
        line.removeprefix("from fastcnn.codegen.")
        for name in identity.FILES
        for line in folder.joinpath(f"{name}.py").read_text(encoding="utf-8").splitlines()
        if line.startswith("from fastcnn")
    ]
    known = {
        "declarations import TYPES, Elementary, Emitted, Linked",
        "entry import Entry",
        # Which functions skip passes: the machine code is the same.
        "identity import is_own",
        "numba_types import (",
        "processor import initialise_llvm, is_x86, processor",
        # identity.OF_FRONTEND
        "simd import VECTOR, emit_splat",
        "simd import FLOAT, VECTOR, emit_call, emit_splat",
        # A function reaches what it uses of it.
        "vector_math import OF_NUMPY",
        "from fastcnn import forks",
        # One of the files that are hashed.
        "from fastcnn.codegen import numba_operators  # noqa: F401",
    }
    assert set(imports) == known


def test_all_kernels_of_the_package_are_written_down() -> None:
    """Also after a function that formulas call has been compiled for numpy arrays."""
    elementary.normal_cdf(np.zeros(3, np.float32))
    records = Records()
    unknown = {
        source.name: [record.unknown for record in records.text(source.function)[1]]
        for source in all_sources()
    }
    assert {name: what for name, what in unknown.items() if what} == {}


def test_no_kernel_reaches_another_kernel() -> None:
    """Otherwise editing one would compile both."""
    records = Records()
    function_of = {
        source.name: getattr(source.function, "function", source.function)
        for source in all_sources()
    }
    kernels = {id(function) for function in function_of.values()}
    for name, function in function_of.items():
        found = {id(record.value) for record in records.reached(function)} & kernels
        assert found == {id(function)}, name


def test_keys_are_those_of_other_processes() -> None:
    """Both are new: this one may have begun before its files were last written."""
    one, other = (
        subprocess.run(
            [sys.executable, "-c",
             "from fastcnn.backends.lanes.kernel_table import all_sources\n"
             f"for source in {order}(all_sources()): print(source.name, source.key())"],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout.splitlines()
        for order, seed in (("list", "1"), ("reversed", "2"))
    )  # fmt: skip
    assert len(one) > 100
    assert one == other[::-1]


def test_records_keep_what_they_have_read() -> None:
    """Otherwise a deleted object's id might be reused."""
    value = linked(lambda x: x)
    assert Record(value).value is value
