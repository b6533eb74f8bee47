"""tinygrad as a contestant, jitted, on its CPU device: training steps and single layers."""

from typing import Any

import numpy as np

from bench.peers.operations import even_windows, function_of, run_of
from fastcnn.backends.graph import Node
from fastcnn.benchmark.layer_cases import Arrays, LayerCase, LayerRun
from fastcnn.benchmark.peer import Peer, run_graph
from fastcnn.benchmark.work import LEARNING_RATE, MOMENTUM, Trainer, Work, learned_keys
from fastcnn.errors import ConfigurationError

#: Maximum FLOPs per sample: vgg_small took 12 ms per sample, twenty times as long as in TensorFlow,
#: and 20 s to compile.
MOST_FLOPS = 4_000_000
#: Operations whose gradient needs forward results, which tinygrad recomputes instead of saving.
NEEDS_OUTPUT = ("max_pool2d", "batch_norm", "sigmoid", "tanh", "elu", "dropout")


def _apply(node: Node, inputs: list[Any], parameters: dict[str, Any]) -> Any:
    """Compute one node with tinygrad's tensors."""
    x, a = inputs[0], dict(node.arguments)
    weight = parameters.get(node.parameters.get("weight", ""))
    bias = parameters.get(node.parameters.get("bias", ""))
    match node.operation:
        case "conv2d" | "conv_transpose2d":
            (top, bottom), (left, right) = a.pop("padding")
            return getattr(x, node.operation)(weight, bias, padding=(left, right, top, bottom), **a)
        case "linear":
            y = x.matmul(parameters[node.parameters["weight"]].transpose())
            return y if bias is None else y + bias
        case "max_pool2d":
            return x.max_pool2d(a["kernel_size"], a["stride"], padding=a["padding"])
        case "avg_pool2d":
            return x.avg_pool2d(
                a["kernel_size"],
                a["stride"],
                padding=a["padding"],
                count_include_pad=a["count_include_pad"],
            )
        case "adaptive_avg_pool2d" if size := even_windows(node):
            return x.avg_pool2d(size, size)
        case "batch_norm":
            return _batch_norm(node, x, weight, bias, parameters)
        case "flatten":
            return x.flatten(1)
        case "add":
            return x + inputs[1]
        case "gelu" if a["approximate"] == "none":  # its own gelu is the approximation
            return 0.5 * x * (1.0 + (x * 0.5**0.5).erf())
        case "softplus":
            return x.softplus(a["beta"])
        case "dropout":
            return x.dropout(a["p"])
        case _ if function := function_of(x, node):
            return function()
    raise ConfigurationError(f"the tinygrad contestant has no {node.operation}")


def _batch_norm(node: Node, x: Any, weight: Any, bias: Any, state: dict[str, Any]) -> Any:
    """Training mode, as in tinygrad's own layer; updates the running statistics."""
    a = dict(node.arguments)
    axes = (0, *range(2, x.ndim))
    mean = x.mean(axes)
    # The mean is detached, as the variance has no gradient with respect to it.
    centred = x - mean.detach().reshape(1, -1, *(1 for _ in axes[1:]))
    variance = (centred * centred).mean(axes)
    count = x.numel() // x.shape[1]
    moved = {"running_mean": mean, "running_var": variance * (count / (count - 1))}
    for key, value in moved.items():
        running = state.get(f"{node.name}.{key}")
        if running is not None:
            running.assign((1 - a["momentum"]) * running + a["momentum"] * value.detach())
    return x.batchnorm(weight, bias, mean, (variance + a["eps"]).rsqrt())


def takes(case: LayerCase, backward: bool) -> bool:
    """Whether it has the layer, and would do the same work as the others."""
    if case.operation == "dropout2d":
        return False
    return not backward or case.operation not in NEEDS_OUTPUT


def layer_run(case: LayerCase, arrays: Arrays, backward: bool, threads: int) -> LayerRun:
    """One layer forward, or gradients that need nothing of the forward pass."""
    from tinygrad import Context, Device, Tensor, TinyJit

    node = case.node(arrays.x.shape[1:], arrays.y.shape[1:])
    values = (*arrays.taken, arrays.grad)
    *tensors, grad = (Tensor(value.copy()).realize() for value in values)

    def layer(*tensors: Any) -> Any:
        return _apply(node, *arrays.named(tensors))

    def forward(grad: Any, *tensors: Any) -> Any:
        return (layer(*tensors).realize(),)

    def gradients(grad: Any, *tensors: Any) -> Any:
        first, *others = layer(*tensors).gradient(*tensors, gradient=grad)
        first.realize(*others)
        return first, *others

    jitted = TinyJit(gradients if backward else forward)

    def step() -> Any:
        with Context(TRAINING=1):
            made = jitted(grad, *tensors)
        Device[Device.DEFAULT].synchronize()
        return made

    for _ in range(3):  # one call traces, the second records, the third replays
        step()
    return run_of(step, lambda made: tuple(value.numpy() for value in made))


class TinygradTrainer(Trainer):
    """Training in tinygrad, which needs clang or LLVM on the machine."""

    def __init__(self, work: Work) -> None:
        from tinygrad import Context, Tensor, TinyJit
        from tinygrad.nn.optim import SGD

        model = work.model()
        graph = model.graph()
        self.state = {key: Tensor(value.copy()) for key, value in model.state_dict().items()}
        learned = learned_keys(model)
        parameters = [value for key, value in self.state.items() if key in learned]
        buffers = [value for key, value in self.state.items() if key not in learned]
        optimizer = SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM)

        def step(x: Any, y: Any) -> Any:
            logits = run_graph(graph, x, lambda node, inputs: _apply(node, inputs, self.state))
            optimizer.zero_grad()
            loss = logits.sparse_categorical_crossentropy(y).backward()
            return loss.realize(*optimizer.schedule_step(), *buffers)

        self.training = Context
        self.take = TinyJit(step)
        small = {np.dtype(np.int64): np.int32}
        self.batches = work.batches(
            lambda array: Tensor(array.astype(small.get(array.dtype, array.dtype))).realize()
        )

    def train(self, steps: int) -> None:
        """Run steps in tinygrad's training mode."""
        with self.training(TRAINING=1):
            super().train(steps)

    def wait(self) -> None:
        """Wait for the last loss."""
        self.last.item()

    def loss(self) -> float:
        """Loss of the last step's batch."""
        return float(self.last.item())

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of parameters and buffers."""
        return {key: value.numpy().copy() for key, value in self.state.items()}


PEER = Peer(
    "tinygrad",
    lambda work, threads: TinygradTrainer(work),
    layer_run,
    takes_network=lambda work: work.flops <= MOST_FLOPS * work.batch,
    takes_layer=takes,
)
