"""JAX as a contestant: one jitted training step, all cores."""

from typing import Any

import numpy as np

from fastcnn.backends.graph import Graph, Node
from fastcnn.benchmark.work import LEARNING_RATE, MOMENTUM, Work
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


def _forward(graph: Graph, parameters: dict[str, Any], x: Any) -> Any:
    outputs: list[Any] = []
    for node in graph.nodes:
        inputs = [x if source < 0 else outputs[source] for source in node.inputs]
        outputs.append(_apply(node, inputs, parameters))
    return outputs[-1]


class JaxTrainer:
    """Training by JAX; XLA takes all cores."""

    def __init__(self, work: Work) -> None:
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_platforms", "cpu")
        model = work.model()
        graph = model.graph()
        for node in graph.nodes:
            if node.operation == "batch_norm":
                raise ConfigurationError("the JAX contestant has no batch_norm")

        def loss(parameters: dict[str, Any], x: Any, y: Any) -> Any:
            scores = jax.nn.log_softmax(_forward(graph, parameters, x))
            return -jnp.take_along_axis(scores, y[:, None], axis=1).mean()

        @jax.jit
        def step(parameters: Any, velocity: Any, x: Any, y: Any) -> tuple[Any, Any]:
            gradients = jax.grad(loss)(parameters, x, y)
            velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, gradients)
            parameters = jax.tree.map(lambda p, v: p - LEARNING_RATE * v, parameters, velocity)
            return parameters, velocity

        self.step = step
        self.state = {key: jnp.asarray(value) for key, value in model.state_dict().items()}
        self.velocity = jax.tree.map(jnp.zeros_like, self.state)
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
            self.state, self.velocity = self.step(self.state, self.velocity, x, y)
            self.at += 1
        jax.block_until_ready(self.state)

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of the parameters."""
        return {key: np.array(value) for key, value in self.state.items()}
