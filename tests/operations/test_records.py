"""Signatures and docstrings, which repeat facts for readers, agree with the records."""

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn import functional as F
from fastcnn import layers
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers.activation import LAYERS
from fastcnn.operations import Elementwise, elementwise_operations, piecewise, smooth
from fastcnn.operations.record import Choice, Number

RECORDS = elementwise_operations()
BAD: list[tuple[Elementwise, Number | Choice, Any]] = [
    (record, argument, value)
    for record in RECORDS
    for argument in record.arguments
    for value in (
        ["a", None, np.inf, np.nan, True, *([0.0, -1.0] if argument.above == 0.0 else [])]
        if isinstance(argument, Number)
        else ["other", None, 1]
    )
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_signatures(record: Elementwise) -> None:
    expected = {argument.name: argument.default for argument in record.arguments}
    names = [*record.parameters, *expected, "backend"]
    for name, first in ((record.name, ["x"]), (f"{record.name}_backward", ["grad_output", "x"])):
        function = getattr(F, name)
        parameters = inspect.signature(function).parameters
        assert list(parameters) == [*first, *names]
        assert {key: parameters[key].default for key in expected} == expected
        assert parameters["backend"].kind is inspect.Parameter.KEYWORD_ONLY
        assert function.__doc__
    layer = inspect.signature(LAYERS[record.name]).parameters
    if not record.parameters:
        assert {key: value.default for key, value in layer.items()} == expected


def test_every_record_has_its_names() -> None:
    for module in (piecewise, smooth):
        names = {record.name for record in module.RECORDS}
        assert set(module.__all__) == names | {f"{name}_backward" for name in names}
        assert all(getattr(F, name) is getattr(module, name) for name in module.__all__)
    assert {record.name for record in RECORDS} == set(LAYERS)
    assert {kind.__name__ for kind in LAYERS.values()} == set(layers.activation.__all__)
    assert all(getattr(layers, kind.__name__) is kind for kind in LAYERS.values())


@pytest.mark.parametrize(
    ("record", "argument", "value"), BAD, ids=lambda value: str(getattr(value, "name", value))
)
def test_bad_arguments(record: Elementwise, argument: Number | Choice, value: Any) -> None:
    message = f"{argument.name} must be .*, got"
    x = np.zeros((2, 3))
    with pytest.raises(ConfigurationError, match=f"{record.name}: {message}"):
        getattr(F, record.name)(x, **{argument.name: value})
    with pytest.raises(ConfigurationError, match=f"{record.name}: {message}"):
        getattr(F, f"{record.name}_backward")(x, x, **{argument.name: value})
    kind = LAYERS[record.name]
    with pytest.raises(ConfigurationError, match=f"{kind.__name__}: {message}"):
        kind(**{argument.name: value})


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_bad_arrays(record: Elementwise) -> None:
    x = np.zeros((2, 3))
    rest = [np.ones(1) for _ in record.parameters]
    backward = getattr(F, f"{record.name}_backward")
    with pytest.raises(ShapeError, match="grad_output has shape"):
        backward(x[:1], x, *rest)
    with pytest.raises(ConfigurationError, match="x must be float32 or float64"):
        getattr(F, record.name)(x.astype(int), *rest)
    for wrong in (np.ones(2), np.ones((3, 1))):
        for place in range(len(rest)):
            given = [*rest[:place], wrong, *rest[place + 1 :]]
            with pytest.raises(ShapeError, match=record.parameters[place]):
                getattr(F, record.name)(x, *given)


def test_bounds_in_order() -> None:
    with pytest.raises(ConfigurationError, match="Hardtanh: min_val must be below max_val"):
        layers.Hardtanh(1.0, 1.0)
    with pytest.raises(ConfigurationError, match="hardtanh: min_val must be below max_val"):
        F.hardtanh(np.zeros((2, 3)), min_val=2.0)


def test_slopes_of_other_channels() -> None:
    with pytest.raises(ShapeError, match="slopes for 4 channels"):
        layers.Sequential(layers.PReLU(4), input_shape=(3, 2, 2)).graph()
    with pytest.raises(ConfigurationError, match="num_parameters must be a positive integer"):
        layers.PReLU(0)


#: Named elsewhere too: in networks, examples and docstrings, where the engine fuses a ReLU,
#: and where ONNX has no operator of one node for them, or one that takes more than they do.
ALSO_ELSEWHERE = {
    "relu",
    "relu6",
    "scale",
    "sigmoid",
    "tanh",
    "leaky_relu",
    "elu",
    "gelu",
    "silu",
    "softplus",
    "hardtanh",
    "prelu",
}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_an_activation_is_named_in_two_files(record: Elementwise) -> None:
    """Its formula and its layer: everything else is derived from them."""
    if record.name in ALSO_ELSEWHERE:
        return
    name = re.compile(rf"\b({record.name}|{LAYERS[record.name].__name__})\b")
    package = Path(layers.__file__).parents[1]
    found = [path for path in package.rglob("*.py") if name.search(path.read_text("utf-8"))]
    assert len(found) == 2, found
