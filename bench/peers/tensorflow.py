"""TensorFlow as a contestant: training steps as a ``tf.function``, with and without XLA; layers.

Maps are NHWC and kernels HWIO, the layouts of TensorFlow's kernels on a CPU.
"""

import os
from typing import Any

import numpy as np

from bench.peers.operations import even_windows, function_of, run_of
from fastcnn.backends.graph import Node
from fastcnn.benchmark.layer_cases import Arrays, LayerCase, LayerRun
from fastcnn.benchmark.peer import Peer, run_graph
from fastcnn.benchmark.work import LEARNING_RATE, MOMENTUM, Trainer, Work, learned_keys
from fastcnn.errors import ConfigurationError


def _tensorflow() -> Any:
    """The library, without the lines that it prints at first use."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow

    return tensorflow


def _maps(array: np.ndarray) -> np.ndarray:
    """NHWC of NCHW."""
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def _kernel(array: np.ndarray) -> np.ndarray:
    """HWIO of OIHW."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def _apply(tf: Any, node: Node, inputs: list[Any], parameters: dict[str, Any]) -> Any:
    """Compute one node with tf.nn."""
    x, a = inputs[0], dict(node.arguments)
    weight: Any = parameters.get(node.parameters.get("weight", ""))
    bias = parameters.get(node.parameters.get("bias", ""))
    match node.operation:
        case "conv2d":
            padding = "VALID"
            if _is_same(a["padding"], weight.shape, a["stride"], a["dilation"]):
                padding = "SAME"
            elif np.any(a["padding"]):
                x = tf.pad(x, ((0, 0), *a["padding"], (0, 0)))
            y = tf.nn.conv2d(x, weight, a["stride"], padding, dilations=a["dilation"])
            return y if bias is None else y + bias
        case "conv_transpose2d" if a["groups"] == 1 and _is_even(a, weight.shape):
            size = (x.shape[0], *node.output_shape[1:], node.output_shape[0])
            y = tf.nn.conv2d_transpose(x, weight, size, a["stride"], "SAME")
            return y if bias is None else y + bias
        case "linear":
            y = tf.matmul(x, weight, transpose_b=True)
            return y if bias is None else y + bias
        case "max_pool2d" if tuple(a["padding"]) == (0, 0):
            return tf.nn.max_pool2d(x, a["kernel_size"], a["stride"], "VALID")
        case "avg_pool2d" if tuple(a["padding"]) == (0, 0):
            return tf.nn.avg_pool2d(x, a["kernel_size"], a["stride"], "VALID")
        case "adaptive_avg_pool2d" if window := even_windows(node):
            return tf.nn.avg_pool2d(x, window, window, "VALID")
        case "batch_norm":
            running = [parameters.get(f"{node.name}.running_{key}") for key in ("mean", "var")]
            maps = x if len(x.shape) == 4 else x[:, None, None, :]
            y, *moved = tf.raw_ops.FusedBatchNormV3(
                x=maps,
                scale=weight,
                offset=bias,
                epsilon=a["eps"],
                is_training=True,
                exponential_avg_factor=1.0 if running[0] is None else a["momentum"],
                mean=_or_none(tf, running[0]),
                variance=_or_none(tf, running[1]),
            )
            for old, new in zip(running, moved, strict=False):
                if old is not None:
                    old.assign(new)
            return tf.reshape(y, x.shape)
        case "flatten":
            return tf.reshape(tf.transpose(x, (0, 3, 1, 2)), (x.shape[0], -1))
        case "add":
            return x + inputs[1]
        case "gelu":
            return tf.nn.gelu(x, approximate=a["approximate"] == "tanh")
        case "softplus" if a["beta"] == 1.0:
            return tf.nn.softplus(x)
        case "dropout":
            return tf.nn.dropout(x, a["p"])
        case "dropout2d":
            return tf.nn.dropout(x, a["p"], noise_shape=(x.shape[0], 1, 1, x.shape[3]))
        case _ if function := function_of(tf.nn, node):
            return function(x)
    raise ConfigurationError(f"the TensorFlow contestant has no {node.operation}")


def _is_same(padding: Any, kernel: Any, stride: Any, dilation: Any) -> bool:
    """Whether a padding equals TensorFlow's "SAME"."""
    needed = [d * (int(k) - 1) for k, d in zip(kernel[:2], dilation, strict=True)]
    wanted = tuple((total // 2, total - total // 2) for total in needed)
    return tuple(stride) == (1, 1) and tuple(map(tuple, padding)) == wanted


def _is_even(arguments: dict[str, Any], kernel: Any) -> bool:
    """Whether a transposed convolution scales the map by ``stride``, which is "SAME", too."""
    crops = [int(k) - s for k, s in zip(kernel[:2], arguments["stride"], strict=True)]
    wanted = tuple((crop // 2, crop - crop // 2) for crop in crops)
    alike = tuple(map(tuple, arguments["padding"])) == wanted and min(crops) >= 0
    return alike and not any(arguments["output_padding"]) and max(arguments["dilation"]) == 1


def _or_none(tf: Any, value: Any) -> Any:
    return tf.zeros(0) if value is None else value


def layer_run(case: LayerCase, arrays: Arrays, backward: bool, threads: int) -> LayerRun:
    """One layer forward, or its gradients from what its forward pass saved.

    The gradient of max pooling repeats the forward pass: without it oneDNN has no kernel, and
    TensorFlow's own took 26 us per sample, where both together took 7.
    """
    tf = _tensorflow()
    node = case.node(arrays.x.shape[1:], arrays.y.shape[1:])

    def layer(*tensors: Any) -> Any:
        return _apply(tf, node, *arrays.named(tensors))

    values = [tf.constant(_maps(value)) for value in (arrays.x, *arrays.other)]
    values += [tf.constant(_kernel(value)) for value in arrays.parameters.values()]
    if backward:
        grad = tf.constant(_maps(arrays.grad))
        run, values = _gradients(tf, layer, values, grad, case.operation != "max_pool2d")
        return run_of(lambda: run(*values), _read_gradients)
    forward = tf.function(layer, autograph=False)
    return run_of(lambda: forward(*values), lambda y: (_channels_first(y),))


def _gradients(
    tf: Any, layer: Any, values: list[Any], grad: Any, keeps: bool = True
) -> tuple[Any, list[Any]]:
    """The gradients as a function of the saved values, and these values.

    If nothing is saved, the forward pass is repeated as far as needed.
    """
    forward: set[Any] = set()

    def both(*tensors: Any) -> Any:
        y = layer(*tensors[:-1])
        forward.update(y.graph.get_operations())
        return tf.gradients(y, tensors[:-1], tensors[-1])

    values = [*values, grad]
    traced = tf.function(both, autograph=False).get_concrete_function(*values)
    written = traced.graph.as_graph_def()
    # By name: tensors compare element by element.
    needed = {
        tensor.name: tensor
        for operation in traced.graph.get_operations()
        if operation not in forward
        for tensor in operation.inputs
    }
    kept = [
        name
        for name, tensor in needed.items()
        if tensor.op in forward and tensor.op.type not in ("Const", "Placeholder")
    ]
    given, made = ([tensor.name for tensor in some] for some in (traced.inputs, traced.outputs))

    def part(sources: list[str], targets: list[str]) -> Any:
        """The traced operations between some tensors."""

        def between(*tensors: Any) -> Any:
            return tf.graph_util.import_graph_def(
                written, dict(zip(sources, tensors, strict=True)), targets
            )

        return tf.function(between, autograph=False)

    kept = kept if keeps else []
    if kept:
        values += part(given, kept)(*values)
    return part(given + kept, made), values


def _read_gradients(values: Any) -> tuple[np.ndarray, ...]:
    grad_x, *others = values
    kernels = (value.numpy() for value in others)
    return _channels_first(grad_x), *(
        value.transpose(3, 2, 0, 1) if value.ndim == 4 else value for value in kernels
    )


def _channels_first(value: Any) -> np.ndarray:
    array: np.ndarray = value.numpy()
    return array.transpose(0, 3, 1, 2) if array.ndim == 4 else array


class TensorFlowTrainer(Trainer):
    """Training in TensorFlow on all cores, on tensors in memory."""

    def __init__(self, work: Work, variant: str) -> None:
        tf = _tensorflow()
        model = work.model()
        graph = model.graph()
        self.state = {key: tf.Variable(_kernel(value)) for key, value in model.state_dict().items()}
        learned = learned_keys(model)
        variables = [value for key, value in self.state.items() if key in learned]
        velocity = [tf.Variable(tf.zeros_like(value)) for value in variables]

        @tf.function(autograph=False, jit_compile=variant == "XLA")
        def take(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                logits = run_graph(
                    graph, x, lambda node, inputs: _apply(tf, node, inputs, self.state)
                )
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
                loss = tf.reduce_mean(losses)
            for value, moved, gradient in zip(
                variables, velocity, tape.gradient(loss, variables), strict=True
            ):
                moved.assign(MOMENTUM * moved + gradient)
                value.assign_sub(LEARNING_RATE * moved)
            return loss

        self.take = take
        self.batches = work.batches(lambda array: tf.constant(_maps(array)))

    def wait(self) -> None:
        """Wait for the last loss."""
        self.last.numpy()

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of parameters and buffers."""
        found = {key: value.numpy() for key, value in self.state.items()}
        return {
            key: value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.copy()
            for key, value in found.items()
        }


PEERS = (
    Peer("TensorFlow function", lambda work, _: TensorFlowTrainer(work, "function"), layer_run),
    Peer("TensorFlow XLA", lambda work, _: TensorFlowTrainer(work, "XLA")),
)
