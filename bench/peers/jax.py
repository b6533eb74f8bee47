"""JAX as a contestant, jitted, on all cores: training steps and single layers."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from bench.peers.operations import even_windows, function_of, run_of
from fastcnn.backends.graph import Graph, Node
from fastcnn.benchmark.layer_cases import Arrays, LayerCase, LayerRun
from fastcnn.benchmark.peer import Peer, run_graph
from fastcnn.benchmark.work import LEARNING_RATE, MOMENTUM, Trainer, Work, learned_keys
from fastcnn.errors import ConfigurationError


def _apply(node: Node, inputs: list[Any], parameters: dict[str, Any]) -> Any:
    """Compute one node with jax.numpy and jax.lax, in NCHW."""
    import jax
    import jax.numpy as jnp

    x, a = inputs[0], dict(node.arguments)
    weight: Any = parameters.get(node.parameters.get("weight", ""))
    bias = parameters.get(node.parameters.get("bias", ""))
    match node.operation:
        case "conv2d":
            y = jax.lax.conv_general_dilated(
                x,
                weight,
                a["stride"],
                a["padding"],
                rhs_dilation=a["dilation"],
                dimension_numbers=("NCHW", "OIHW", "NCHW"),
                feature_group_count=a["groups"],
            )
            return y if bias is None else y + bias[:, None, None]
        case "conv_transpose2d" if a["groups"] == 1:
            # Zeros are inserted between the input's pixels, which are convolved with the flipped
            # kernel.
            around = [
                (d * (k - 1) - low, d * (k - 1) - high + extra)
                for k, d, (low, high), extra in zip(
                    weight.shape[2:], a["dilation"], a["padding"], a["output_padding"], strict=True
                )
            ]
            y = jax.lax.conv_general_dilated(
                x,
                jnp.flip(weight, (2, 3)),
                (1, 1),
                around,
                lhs_dilation=a["stride"],
                rhs_dilation=a["dilation"],
                dimension_numbers=("NCHW", "IOHW", "NCHW"),
            )
            return y if bias is None else y + bias[:, None, None]
        case "linear":
            y = jnp.matmul(x, jnp.transpose(weight))
            return y if bias is None else y + bias
        case "max_pool2d":
            pads = ((0, 0), (0, 0), *((p, p) for p in a["padding"]))
            return jax.lax.reduce_window(
                x, -jnp.inf, jax.lax.max, (1, 1, *a["kernel_size"]), (1, 1, *a["stride"]), pads
            )
        case "avg_pool2d" if tuple(a["padding"]) == (0, 0):
            return _means(x, a["kernel_size"], a["stride"])
        case "adaptive_avg_pool2d" if size := even_windows(node):
            return _means(x, size, size)
        case "flatten":
            return x.reshape(len(x), -1)
        case "add":
            return x + inputs[1]
        case "relu":
            return jnp.maximum(x, 0)
        case "gelu":
            return jax.nn.gelu(x, approximate=a["approximate"] == "tanh")
        case "softplus":
            return jax.nn.softplus(a["beta"] * x) / a["beta"]
        case _ if function := function_of(jax.nn, node):
            return function(x)
    raise ConfigurationError(f"the JAX contestant has no {node.operation}")


def _means(x: Any, window: tuple[int, int], stride: tuple[int, int]) -> Any:
    import jax

    sums = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 1, *window), (1, 1, *stride), "VALID")
    return sums / (window[0] * window[1])


def _dropout(node: Node, x: Any, key: Any) -> Any:
    """Dropout as in Flax; dropout2d drops whole maps."""
    import jax
    import jax.numpy as jnp

    kept = 1.0 - node.arguments["p"]
    shape = x.shape if node.operation == "dropout" else (*x.shape[:2], 1, 1)
    return jnp.where(jax.random.bernoulli(key, kept, shape), x / kept, 0)


def _normalised(node: Node, x: Any, parameters: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Batch normalisation in training mode: output, mean and variance."""
    import jax
    import jax.numpy as jnp

    axes = (0, *range(2, x.ndim))
    wide = (slice(None), *(None for _ in axes[1:]))
    weight, bias = (parameters[node.parameters[key]] for key in ("weight", "bias"))
    # The variance as in Flax: both sums in one pass over the input.
    mean = jnp.mean(x, axes)
    variance = jnp.maximum(jnp.mean(jnp.square(x), axes) - jnp.square(mean), 0)
    scale = weight * jax.lax.rsqrt(variance + node.arguments["eps"])
    return (x - mean[wide]) * scale[wide] + bias[wide], mean, variance


def _batch_norm(
    node: Node, x: Any, parameters: dict[str, Any], buffers: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Output in training mode, and the running statistics after it."""
    a = dict(node.arguments)
    y, mean, variance = _normalised(node, x, parameters)
    count = x.size // x.shape[1]
    keys = (f"{node.name}.running_mean", f"{node.name}.running_var")
    moved = dict(zip(keys, (mean, variance * (count / (count - 1))), strict=True))
    return y, {key: buffers[key] + a["momentum"] * (moved[key] - buffers[key]) for key in keys}


def _forward(
    graph: Graph, parameters: dict[str, Any], buffers: dict[str, Any], x: Any
) -> tuple[Any, dict[str, Any]]:
    """Logits, and the buffers after the step."""
    after = dict(buffers)

    def apply(node: Node, inputs: list[Any]) -> Any:
        if node.operation != "batch_norm":
            return _apply(node, inputs, parameters)
        y, moved = _batch_norm(node, inputs[0], parameters, after)
        after.update(moved)
        return y

    return run_graph(graph, x, apply), after


def layer_run(case: LayerCase, arrays: Arrays, backward: bool, threads: int) -> LayerRun:
    """One layer forward, or its gradients from what its forward pass saved."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", "cpu")
    node = case.node(arrays.x.shape[1:], arrays.y.shape[1:])

    def layer(key: Any, *tensors: Any) -> Any:
        inputs, parameters = arrays.named(tensors)
        if node.operation == "batch_norm":
            return _normalised(node, inputs[0], parameters)[0]
        if case.is_random:
            return _dropout(node, inputs[0], key)
        return _apply(node, inputs, parameters)

    tensors = [jnp.asarray(value) for value in arrays.taken]
    key, grad = jax.random.key(0), jnp.asarray(arrays.grad)
    forward = jax.jit(layer)
    if backward:
        gradients, kept = gradients_of(partial(layer, key), tensors)
        return run_of(lambda: jax.block_until_ready(gradients(kept, grad)), _read)
    return run_of(lambda: (forward(key, *tensors).block_until_ready(),), _read)


def gradients_of(function: Any, tensors: Sequence[Any]) -> tuple[Any, Any]:
    """The gradients as a jitted function of the saved values and ``grad``; and the saved values.

    As an argument, these are not recomputed.
    """
    import jax

    _, kept = jax.vjp(function, *tensors)
    return jax.jit(lambda kept, grad: kept(grad)), kept


def _read(values: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(value) for value in values)


class JaxTrainer(Trainer):
    """Training in JAX; XLA uses all cores."""

    def __init__(self, work: Work) -> None:
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_platforms", "cpu")
        model = work.model()
        graph, learned = model.graph(), learned_keys(model)

        def loss(parameters: Any, buffers: Any, x: Any, y: Any) -> tuple[Any, Any]:
            logits, buffers = _forward(graph, parameters, buffers, x)
            scores = jax.nn.log_softmax(logits)
            return -jnp.take_along_axis(scores, y[:, None], axis=1).mean(), buffers

        @jax.jit
        def step(
            parameters: Any, buffers: Any, velocity: Any, x: Any, y: Any
        ) -> tuple[Any, Any, Any, Any]:
            found = jax.value_and_grad(loss, has_aux=True)(parameters, buffers, x, y)
            (value, buffers), gradients = found
            velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, gradients)
            parameters = jax.tree.map(lambda p, v: p - LEARNING_RATE * v, parameters, velocity)
            return parameters, buffers, velocity, value

        self.step = step
        state = {key: jnp.asarray(value) for key, value in model.state_dict().items()}
        parameters = {key: value for key, value in state.items() if key in learned}
        buffers = {key: value for key, value in state.items() if key not in learned}
        self.state = (parameters, buffers, jax.tree.map(jnp.zeros_like, parameters))
        self.batches = work.batches(jnp.asarray)

    def take(self, x: Any, y: Any) -> Any:
        """Run one step."""
        *state, loss = self.step(*self.state, x, y)
        self.state = tuple(state)
        return loss

    def wait(self) -> None:
        """Wait for all computations."""
        import jax

        jax.block_until_ready(self.state)

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of parameters and buffers."""
        parameters, buffers, _ = self.state
        return {key: np.array(value) for key, value in (parameters | buffers).items()}


PEER = Peer("JAX jit", lambda work, threads: JaxTrainer(work), layer_run)
