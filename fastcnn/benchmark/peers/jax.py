"""JAX as a contestant: one jitted training step, all cores."""

from typing import Any

import numpy as np

from fastcnn.backends.graph import Graph, Node
from fastcnn.benchmark.work import LEARNING_RATE, MOMENTUM, Work, learned_keys
from fastcnn.errors import ConfigurationError


def _apply(node: Node, inputs: list[Any], parameters: dict[str, Any]) -> Any:
    """One node by jax.numpy and jax.lax, in NCHW."""
    import jax
    import jax.numpy as jnp

    x, a = inputs[0], dict(node.arguments)
    weight = parameters.get(node.parameters.get("weight", ""))
    bias = parameters.get(node.parameters.get("bias", ""))
    match node.operation:
        case "conv2d":
            y = jax.lax.conv_general_dilated(
                x, weight, a["stride"], a["padding"], rhs_dilation=a["dilation"],
                dimension_numbers=("NCHW", "OIHW", "NCHW"), feature_group_count=a["groups"],
            )  # fmt: skip
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
            window, stride = (1, 1, *a["kernel_size"]), (1, 1, *a["stride"])
            sums = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, stride, "VALID")
            return sums / (a["kernel_size"][0] * a["kernel_size"][1])
        case "flatten":
            return x.reshape(len(x), -1)
        case "add":
            return x + inputs[1]
        case "relu":
            return jnp.maximum(x, 0)
        case "sigmoid":
            return jax.nn.sigmoid(x)
        case "tanh":
            return jnp.tanh(x)
    raise ConfigurationError(f"the JAX contestant has no {node.operation}")


def _batch_norm(
    node: Node, x: Any, parameters: dict[str, Any], buffers: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Output in training mode, and the running statistics after it."""
    import jax
    import jax.numpy as jnp

    a = dict(node.arguments)
    weight, bias = (parameters[node.parameters[key]] for key in ("weight", "bias"))
    # The variance as Flax takes it: both sums in one pass over the input.
    mean = jnp.mean(x, (0, 2, 3))
    variance = jnp.maximum(jnp.mean(jnp.square(x), (0, 2, 3)) - jnp.square(mean), 0)
    scale = weight * jax.lax.rsqrt(variance + a["eps"])
    y = (x - mean[:, None, None]) * scale[:, None, None] + bias[:, None, None]
    count = x.size // x.shape[1]
    keys = (f"{node.name}.running_mean", f"{node.name}.running_var")
    moved = dict(zip(keys, (mean, variance * (count / (count - 1))), strict=True))
    return y, {key: buffers[key] + a["momentum"] * (moved[key] - buffers[key]) for key in keys}


def _forward(
    graph: Graph, parameters: dict[str, Any], buffers: dict[str, Any], x: Any
) -> tuple[Any, dict[str, Any]]:
    """Logits, and the buffers after the step."""
    outputs: list[Any] = []
    for node in graph.nodes:
        inputs = [x if source < 0 else outputs[source] for source in node.inputs]
        if node.operation == "batch_norm":
            y, moved = _batch_norm(node, inputs[0], parameters, buffers)
            buffers = buffers | moved
        else:
            y = _apply(node, inputs, parameters)
        outputs.append(y)
    return outputs[-1], buffers


class JaxTrainer:
    """Training by JAX; XLA takes all cores."""

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
        starts = range(0, len(work.x), work.batch)
        self.batches = [
            (jnp.asarray(work.x[i : i + work.batch]), jnp.asarray(work.y[i : i + work.batch]))
            for i in starts
        ]
        self.at = 0

    def train(self, steps: int) -> None:
        """Take steps on consecutive batches, round and round, and wait for the last."""
        import jax

        for _ in range(steps):
            x, y = self.batches[self.at % len(self.batches)]
            *state, self.last = self.step(*self.state, x, y)
            self.state = tuple(state)
            self.at += 1
        jax.block_until_ready(self.state)

    def loss(self) -> float:
        """Loss of the last step's batch."""
        return float(self.last)

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of parameters and buffers."""
        parameters, buffers, _ = self.state
        return {key: np.array(value) for key, value in (parameters | buffers).items()}
