"""tinygrad as a contestant: one jitted training step, on its CPU device."""

from typing import Any

import numpy as np

from fastcnn.backends.graph import Node
from fastcnn.benchmark.work import LEARNING_RATE, MOMENTUM, Work, learned_keys
from fastcnn.errors import ConfigurationError


def _apply(node: Node, inputs: list[Any], parameters: dict[str, Any]) -> Any:
    """One node by tinygrad's tensors."""
    x, a = inputs[0], dict(node.arguments)
    weight = parameters.get(node.parameters.get("weight", ""))
    bias = parameters.get(node.parameters.get("bias", ""))
    match node.operation:
        case "conv2d":
            (top, bottom), (left, right) = a["padding"]
            return x.conv2d(
                weight, bias, groups=a["groups"], stride=a["stride"], dilation=a["dilation"],
                padding=(left, right, top, bottom),
            )  # fmt: skip
        case "linear":
            y = x.matmul(parameters[node.parameters["weight"]].transpose())
            return y if bias is None else y + bias
        case "max_pool2d":
            return x.max_pool2d(a["kernel_size"], a["stride"], padding=a["padding"])
        case "avg_pool2d":
            return x.avg_pool2d(
                a["kernel_size"], a["stride"], padding=a["padding"],
                count_include_pad=a["count_include_pad"],
            )  # fmt: skip
        case "batch_norm":
            return _batch_norm(node, x, weight, bias, parameters)
        case "flatten":
            return x.flatten(1)
        case "add":
            return x + inputs[1]
        case "relu" | "sigmoid" | "tanh":
            return getattr(x, node.operation)()
    raise ConfigurationError(f"the tinygrad contestant has no {node.operation}")


def _batch_norm(node: Node, x: Any, weight: Any, bias: Any, state: dict[str, Any]) -> Any:
    """Training mode, as tinygrad's own layer has it; sets the running statistics."""
    a = dict(node.arguments)
    mean = x.mean((0, 2, 3))
    centred = x - mean.detach().reshape(1, -1, 1, 1)  # the variance has no slope by the mean
    variance = (centred * centred).mean((0, 2, 3))
    count = x.numel() // x.shape[1]
    moved = {"running_mean": mean, "running_var": variance * (count / (count - 1))}
    for key, value in moved.items():
        running = state[f"{node.name}.{key}"]
        running.assign((1 - a["momentum"]) * running + a["momentum"] * value.detach())
    return x.batchnorm(weight, bias, mean, (variance + a["eps"]).rsqrt())


class TinygradTrainer:
    """Training by tinygrad, which needs clang or LLVM on the machine."""

    def __init__(self, work: Work) -> None:
        from tinygrad import Context, Tensor, TinyJit, dtypes
        from tinygrad.nn.optim import SGD

        model = work.model()
        graph = model.graph()
        self.state = {key: Tensor(value.copy()) for key, value in model.state_dict().items()}
        learned = learned_keys(model)
        parameters = [value for key, value in self.state.items() if key in learned]
        buffers = [value for key, value in self.state.items() if key not in learned]
        optimizer = SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM)

        def step(x: Any, y: Any) -> Any:
            outputs: list[Any] = []
            for node in graph.nodes:
                inputs = [x if source < 0 else outputs[source] for source in node.inputs]
                outputs.append(_apply(node, inputs, self.state))
            optimizer.zero_grad()
            loss = outputs[-1].sparse_categorical_crossentropy(y).backward()
            return loss.realize(*optimizer.schedule_step(), *buffers)

        self.training = Context
        self.step = TinyJit(step)
        starts = range(0, len(work.x), work.batch)
        self.batches = [
            (
                Tensor(work.x[i : i + work.batch].copy()).realize(),
                Tensor(work.y[i : i + work.batch].astype(np.int32), dtype=dtypes.int32).realize(),
            )
            for i in starts
        ]
        self.at = 0

    def train(self, steps: int) -> None:
        """Take steps on consecutive batches, round and round, and wait for the last."""
        with self.training(TRAINING=1):
            for _ in range(steps):
                self.last = self.step(*self.batches[self.at % len(self.batches)])
                self.at += 1
        self.last.item()

    def loss(self) -> float:
        """Loss of the last step's batch."""
        return float(self.last.item())

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of parameters and buffers."""
        return {key: value.numpy().copy() for key, value in self.state.items()}
