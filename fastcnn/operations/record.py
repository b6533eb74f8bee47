"""Records of operations, from which their functional forms and layers are made or checked."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Union

import numpy as np

from fastcnn.arguments import as_array, as_choice, as_number, as_same_type
from fastcnn.errors import ShapeError
from fastcnn.operations.forms import Checked, computed, gradient

#: A numpy array, a float, or in a compiled kernel a vector of 16 samples.
Value = Any


@dataclass(frozen=True)
class OnnxNode:
    """An operation in ONNX: a node, whose inputs may in turn be nodes.

    Attributes
    ----------
    kind : str
        ONNX's operator name.
    inputs : tuple of (OnnxNode, str or float)
        ``"x"`` is the input of the operation, other text one of its parameters or arguments, a
        number a constant.
    attributes : mapping of str to (str or float)
        The name of an argument, or a number.
    """

    kind: str
    inputs: tuple[Union["OnnxNode", str, float], ...] = ("x",)
    attributes: Mapping[str, str | float] = field(default_factory=dict)

    def bound(self) -> set[str]:
        """The arguments and parameters that it refers to."""
        names = {value for value in self.attributes.values() if isinstance(value, str)}
        for part in self.inputs:
            if isinstance(part, OnnxNode):
                names |= part.bound()
            elif isinstance(part, str) and part != "x":
                names.add(part)
        return names


#: Shape of a sample, or of a sample of each input.
CaseShape = tuple[int, ...] | tuple[tuple[int, ...], ...]


class Case(NamedTuple):
    """A layer's class and arguments, and the shape of its samples."""

    kind: str
    shape: CaseShape
    given: tuple[Any, ...]
    named: dict[str, Any]


def case(kind: str, shape: CaseShape, *given: Any, **named: Any) -> Case:
    """A layer, the shape of samples, and the layer's arguments."""
    return Case(kind, shape, given, named)


@dataclass(frozen=True)
class Operation:
    """Everything that the package needs to know about an operation.

    Attributes
    ----------
    name : str
        The name in ``torch.nn.functional``; also that of the backend function, with the gradient
        function ``name + "_backward"``.
    parameters : tuple of str
        Parameters passed to the forward function, after the inputs and in this order.
    backward_reads : tuple of str
        Those of them passed to the backward function, after ``grad_output`` and the inputs.
    inputs : int or None
        Number of input arrays, each the output of another node; None for any number.
    random : bool
        True if the operation needs a key of the counter-based generator, and is the identity
        outside training.
    normalises : bool
        True if the operation takes ``mean`` and ``variance``: None for those of its input, in
        training, or the running ones. The function ``batch_statistics`` computes the former.
    fuses_relu : bool
        Whether the engine can fuse a following ReLU at no cost.
    renames : bool
        Whether the output may share the input's memory.
    any_layout : bool
        Whether the output's gradient is read through index tables, with any zero padding around it.
    gradient_needs : {"nothing", "input", "forward"}
        What the backward pass needs in addition to the output's gradient and parameters: nothing,
        the input, or a result of the forward pass.
    masks_gradient : bool
        Whether the input's gradient can be masked by the preceding ReLU while it is written.
    frees_input : bool
        Whether the input's gradient is written only after the last use of the input, so that it may
        overwrite it.
    needs_output : bool
        Whether the engine's backward pass reads the operation's output.
    hands_gradient_on : bool
        Whether the output's gradient, or a part of it, may share memory with that of an input.
    output_mask : bool
        Whether the backward function accepts ``output_mask``, which selects gradients, and returns
        None for the others.
    layers : tuple of Case
        Layers that compute it, whose gradients are checked.
    timed : tuple of (shape, dict)
        Sample shapes and arguments with which ``fastcnn bench layer`` times it. Parameters have a
        value per channel, or the argument ``normalized_shape``.
    """

    name: str
    parameters: tuple[str, ...] = ()
    backward_reads: tuple[str, ...] = ()
    inputs: int | None = 1
    random: bool = False
    normalises: bool = False
    fuses_relu: bool = False
    renames: bool = False
    any_layout: bool = False
    gradient_needs: str = "forward"
    masks_gradient: bool = False
    frees_input: bool = False
    needs_output: bool = False
    hands_gradient_on: bool = False
    output_mask: bool = False
    layers: tuple[Case, ...] = ()
    timed: tuple[tuple[tuple[int, ...], Mapping[str, Any]], ...] = ()

    @property
    def gradient_reads_output(self) -> bool:
        """Whether the engine's backward pass reads the operation's output."""
        return self.needs_output


@dataclass(frozen=True)
class Number:
    """An argument that is a finite number above a bound."""

    name: str
    default: float
    above: float = -math.inf

    def check(self, owner: str, value: Any) -> float:
        """``value`` as a float, or a ConfigurationError."""
        return as_number(owner, self.name, value, self.above)


@dataclass(frozen=True)
class Choice:
    """An argument that is one of several words."""

    name: str
    default: str
    choices: tuple[str, ...]

    def check(self, owner: str, value: Any) -> str:
        """``value``, or a ConfigurationError."""
        return as_choice(owner, self.name, value, self.choices)


@dataclass(frozen=True)
class Formula:
    """An element-wise function and its gradient.

    Attributes
    ----------
    value : function
        ``value(x, *parameters, *numbers)``.
    gradient : function
        ``gradient(grad, x, *parameters, *numbers)``: the gradient with respect to the input, given
        that of the output, ``grad``.
    gradient_from_output : function, optional
        The gradient as a function of the output ``y`` instead of the input, if the output suffices;
        the engine then discards the input.
    parameter_gradients : tuple of function
        With the arguments of ``gradient``: each element's contribution to the gradient of a
        parameter.
    """

    value: Callable[..., Value]
    gradient: Callable[..., Value]
    gradient_from_output: Callable[..., Value] | None = None
    parameter_gradients: tuple[Callable[..., Value], ...] = ()


#: Channels of the inputs in tests of :attr:`Elementwise.cases`.
CASE_CHANNELS = 3


@dataclass(frozen=True)
class Elementwise(Operation):
    """An element-wise operation.

    Attributes
    ----------
    formula : Formula or dict of str to Formula
        One, or one for each value of the argument that is a :class:`Choice`.
    arguments : tuple of Number or Choice
        In the order of the functional form, the layer and the formula.
    cases : tuple of dict
        Arguments of the layer in tests of the operation: its gradient, its equivalence on all
        backends, PyTorch and ONNX. Inputs have :data:`CASE_CHANNELS` channels.
    onnx : tuple of OnnxNode
        Its forms in ONNX files: the first is written, all are read.
    check : function, optional
        ``check(owner, arguments)`` raises a ConfigurationError if the arguments are incompatible.
    """

    any_layout: bool = True
    frees_input: bool = True
    formula: Formula | Mapping[str, Formula] = Formula(abs, abs)
    arguments: tuple[Number | Choice, ...] = ()
    cases: tuple[Mapping[str, Any], ...] = ({},)
    onnx: tuple[OnnxNode, ...] = ()
    check: Callable[[str, Mapping[str, Any]], None] | None = None

    @property
    def gradient_reads_output(self) -> bool:
        """Whether the engine's backward pass reads the output instead of the input."""
        formula = self.formula
        return isinstance(formula, Formula) and formula.gradient_from_output is not None

    def checked(self, owner: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments, checked, with defaults for missing ones.

        Raises
        ------
        ConfigurationError
            If one of them is invalid; the message names ``owner``.
        """
        checked = {
            argument.name: argument.check(owner, given.get(argument.name, argument.default))
            for argument in self.arguments
        }
        if self.check is not None:
            self.check(owner, checked)
        return checked

    def formula_of(self, arguments: Mapping[str, Any]) -> tuple[Formula, tuple[float, ...]]:
        """The formula for the given arguments, and its numbers."""
        formula, numbers = self.formula, []
        for argument in self.arguments:
            value = arguments.get(argument.name, argument.default)
            if isinstance(argument, Choice):
                assert isinstance(formula, Mapping)
                formula = formula[value]
            else:
                numbers.append(float(value))
        assert isinstance(formula, Formula)
        return formula, tuple(numbers)

    def forward(self, *given: Any, backend: str | None) -> np.ndarray:
        """The functional form: ``x``, parameters and arguments, in the record's order."""
        made: np.ndarray = computed(self.name, self.taken, backend, *given)
        return made

    def backward(self, grad_output: Any, *given: Any, backend: str | None) -> Any:
        """The functional form of the gradient: that of ``x``, then those of parameters."""
        return gradient(self.name, self.taken, backend, grad_output, *given)

    def taken(self, name: str, x: Any, *given: Any) -> Checked:
        """The checked arguments of a functional form."""
        x = as_array(name, "x", x)
        arrays, count = [x], len(self.parameters)
        for parameter, value in zip(self.parameters, given[:count], strict=True):
            array = as_same_type(name, x, parameter, value, 1)
            channels = x.shape[1] if x.ndim > 1 else 1
            if len(array) not in (1, channels):
                raise ShapeError(
                    f"{name}: {parameter} must have shape (1,) or ({channels},) for x of shape "
                    f"{x.shape}, got {array.shape}"
                )
            arrays.append(array)
        arguments = {
            argument.name: argument.check(self.name, value)
            for argument, value in zip(self.arguments, given[count:], strict=True)
        }
        if self.check is not None:
            self.check(self.name, arguments)
        return Checked(tuple(arrays), arguments, x.shape)


def by_channel(parameter: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A parameter with one value, or one per channel, in a shape that broadcasts with ``x``."""
    return parameter.reshape((1, -1, *(1,) * (x.ndim - 2)) if x.ndim > 1 else -1)


@dataclass(frozen=True)
class Update:
    """A user's formula for an optimiser's parameter update: see :mod:`fastcnn.kernel`.

    Attributes
    ----------
    function : function
        ``function(parameter, gradient, *slots, lr, step, *numbers)`` returns the new parameter, or
        a tuple of it and the new slots.
    """

    name: str
    function: Callable[..., Any]
    slots: tuple[str, ...] = ()
    arguments: tuple[Number, ...] = ()


#: User-defined updates, by name.
OWN_UPDATES: dict[str, Update] = {}
