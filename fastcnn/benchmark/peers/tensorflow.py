"""TensorFlow as a contestant: one training step as a ``tf.function``, with and without XLA."""

from typing import Any

import numpy as np

from fastcnn.backends.graph import Node
from fastcnn.benchmark.work import LEARNING_RATE, MOMENTUM, Work, learned_keys
from fastcnn.errors import ConfigurationError

VARIANTS = ("function", "XLA")


def _apply(tf: Any, node: Node, inputs: list[Any], parameters: dict[str, Any]) -> Any:
    """One node in NHWC, the layout in which TensorFlow's CPU kernels are."""
    x, a = inputs[0], dict(node.arguments)
    weight = parameters.get(node.parameters.get("weight", ""))
    bias = parameters.get(node.parameters.get("bias", ""))
    match node.operation:
        case "conv2d":
            x = tf.pad(x, ((0, 0), *a["padding"], (0, 0)))
            y = tf.nn.conv2d(
                x, tf.transpose(weight, (2, 3, 1, 0)), a["stride"], "VALID",
                dilations=a["dilation"],
            )  # fmt: skip
            return y if bias is None else y + bias
        case "linear":
            y = tf.matmul(x, weight, transpose_b=True)
            return y if bias is None else y + bias
        case "max_pool2d" if tuple(a["padding"]) == (0, 0):
            return tf.nn.max_pool2d(x, a["kernel_size"], a["stride"], "VALID")
        case "avg_pool2d" if tuple(a["padding"]) == (0, 0):
            return tf.nn.avg_pool2d(x, a["kernel_size"], a["stride"], "VALID")
        case "batch_norm":
            mean, variance = (parameters[f"{node.name}.running_{key}"] for key in ("mean", "var"))
            y, new_mean, new_variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x, scale=weight, offset=bias, mean=mean, variance=variance, epsilon=a["eps"],
                exponential_avg_factor=a["momentum"], is_training=True,
            )  # fmt: skip
            mean.assign(new_mean)
            variance.assign(new_variance)
            return y
        case "flatten":
            return tf.reshape(tf.transpose(x, (0, 3, 1, 2)), (x.shape[0], -1))
        case "add":
            return x + inputs[1]
        case "relu" | "sigmoid" | "tanh":
            return getattr(tf.nn, node.operation)(x)
    raise ConfigurationError(f"the TensorFlow contestant has no {node.operation}")


class TensorFlowTrainer:
    """Training by TensorFlow on all cores, on tensors that are in memory already."""

    def __init__(self, work: Work, variant: str) -> None:
        import tensorflow as tf

        model = work.model()
        graph = model.graph()
        self.state = {key: tf.Variable(value) for key, value in model.state_dict().items()}
        learned = learned_keys(model)
        variables = [value for key, value in self.state.items() if key in learned]
        velocity = [tf.Variable(tf.zeros_like(value)) for value in variables]

        @tf.function(autograph=False, jit_compile=variant == "XLA")
        def step(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                outputs: list[Any] = []
                for node in graph.nodes:
                    inputs = [x if source < 0 else outputs[source] for source in node.inputs]
                    outputs.append(_apply(tf, node, inputs, self.state))
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, outputs[-1])
                loss = tf.reduce_mean(losses)
            for value, moved, gradient in zip(
                variables, velocity, tape.gradient(loss, variables), strict=True
            ):
                moved.assign(MOMENTUM * moved + gradient)
                value.assign_sub(LEARNING_RATE * moved)
            return loss

        self.step = step
        images = work.x.transpose(0, 2, 3, 1)
        starts = range(0, len(work.x), work.batch)
        self.batches = [
            (tf.constant(images[i : i + work.batch]), tf.constant(work.y[i : i + work.batch]))
            for i in starts
        ]
        self.at = 0

    def train(self, steps: int) -> None:
        """Take steps on consecutive batches, round and round, and wait for the last."""
        for _ in range(steps):
            self.last = self.step(*self.batches[self.at % len(self.batches)])
            self.at += 1
        self.last.numpy()

    def loss(self) -> float:
        """Loss of the last step's batch."""
        return float(self.last)

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of parameters and buffers."""
        return {key: np.array(value) for key, value in self.state.items()}
