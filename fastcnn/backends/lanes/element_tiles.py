"""Loops of activations over vectors that follow each other in memory: one for each function.

The function is chosen before the loop. With one loop that asks in each round which function is
meant, and a table for each vector's place, a sigmoid took twice as long.
"""

from collections.abc import Callable
from typing import Any

from fastcnn.backends.lanes.layout import (
    ACT_COPY,
    ACT_ELU,
    ACT_GELU,
    ACT_GELU_TANH,
    ACT_LEAKY_RELU,
    ACT_RELU,
    ACT_SIGMOID,
    ACT_SILU,
    ACT_SOFTPLUS,
    ACT_TANH,
)
from fastcnn.codegen import vector_math as vm
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import (
    LANES,
    emit_keep_positive,
    emit_load,
    emit_relu,
    emit_store,
)

#: ``emit(builder, x, a, b)`` with the function's two numbers.
FORWARD: dict[int, Callable[[Any, Any, Any, Any], Any]] = {
    ACT_COPY: lambda builder, x, a, b: x,
    ACT_RELU: lambda builder, x, a, b: emit_relu(builder, x),
    ACT_SIGMOID: lambda builder, x, a, b: vm.emit_sigmoid(builder, x),
    ACT_TANH: lambda builder, x, a, b: vm.emit_tanh(builder, x),
    ACT_LEAKY_RELU: lambda builder, x, a, b: vm.emit_leaky(builder, x, a, x),
    ACT_ELU: lambda builder, x, a, b: vm.emit_elu(builder, x, a),
    ACT_GELU: lambda builder, x, a, b: vm.emit_gelu(builder, x),
    ACT_GELU_TANH: lambda builder, x, a, b: vm.emit_gelu_tanh(builder, x),
    ACT_SILU: lambda builder, x, a, b: vm.emit_silu(builder, x),
    ACT_SOFTPLUS: vm.emit_softplus,
}
#: ``emit(builder, m, a, b, grad)``: ``m`` is the output of ReLU, sigmoid and tanh, and the input of
#: all others.
BACKWARD: dict[int, Callable[[Any, Any, Any, Any, Any], Any]] = {
    ACT_RELU: lambda builder, y, a, b, grad: emit_keep_positive(builder, y, grad),
    ACT_SIGMOID: lambda builder, y, a, b, grad: vm.emit_sigmoid_gradient(builder, y, grad),
    ACT_TANH: lambda builder, y, a, b, grad: vm.emit_tanh_gradient(builder, y, grad),
    ACT_LEAKY_RELU: lambda builder, x, a, b, grad: vm.emit_leaky(builder, x, a, grad),
    ACT_ELU: lambda builder, x, a, b, grad: vm.emit_elu_gradient(builder, x, a, grad),
    ACT_GELU: lambda builder, x, a, b, grad: vm.emit_gelu_gradient(builder, x, grad),
    ACT_GELU_TANH: lambda builder, x, a, b, grad: vm.emit_gelu_tanh_gradient(builder, x, grad),
    ACT_SILU: lambda builder, x, a, b, grad: vm.emit_silu_gradient(builder, x, grad),
    ACT_SOFTPLUS: vm.emit_softplus_gradient,
}


@tile(0)
def activation_run(at: Emitter, mode: Any, A: Any, x: Any, y: Any, count: Any, scale: Any) -> None:
    """Vectors of Y from those of X, by the function ``mode`` with its numbers at ``scale``."""
    _choose(at, FORWARD, mode, A, [x], y, count, scale)


@tile(0)
def gradient_run(
    at: Emitter, mode: Any, A: Any, m: Any, grad: Any, x: Any, count: Any, scale: Any
) -> None:
    """The same of the input's gradient X, from M and the output's gradient."""
    _choose(at, BACKWARD, mode, A, [m, grad], x, count, scale)


def _choose(
    at: Emitter, functions: dict[int, Any], mode: Any, A: Any, sources: list[Any], target: Any,
    count: Any, scale: Any,
) -> None:  # fmt: skip
    builder = at.builder
    numbers = [builder.load(at.pointer(A, at.offset(scale, i, 1))) for i in range(2)]
    for number, emit in functions.items():
        with builder.if_then(builder.icmp_signed("==", mode, at.index(number))):
            _loop(at, emit, numbers, A, sources, target, count)


def _loop(
    at: Emitter, emit: Any, numbers: list[Any], A: Any, sources: list[Any], target: Any, count: Any
) -> None:
    builder = at.builder

    def step(i: Any, state: list[Any]) -> list[Any]:
        first, *rest = (
            emit_load(builder, at.pointer(A, at.offset(source, i, LANES))) for source in sources
        )
        value = emit(builder, first, *numbers, *rest)
        emit_store(builder, value, at.pointer(A, at.offset(target, i, LANES)))
        return state

    at.loop(at.index(0), count, [], step)
