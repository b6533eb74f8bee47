"""PyTorch as a contestant: eager, channels_last and torch.compile."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from fastcnn.backends.graph import Graph, Node
from fastcnn.benchmark.layer_cases import Arrays, LayerCase, LayerRun
from fastcnn.benchmark.peer import Peer, run_graph
from fastcnn.benchmark.work import LEARNING_RATE, MOMENTUM, Trainer, Work, learned_keys
from fastcnn.errors import ConfigurationError
from fastcnn.operations import OPERATIONS, Elementwise

VARIANTS = ("eager", "channels_last", "compile")
#: Operations whose arguments have the same names in PyTorch.
ALIKE = (
    *("max_pool2d", "avg_pool2d", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
    *("local_response_norm", "softmax", "log_softmax"),
)


def apply_node(node: Node, inputs: list[Any], parameters: dict[str, Any], training: bool) -> Any:
    """Apply one node with torch.nn.functional."""
    import torch
    import torch.nn.functional as F

    x, a = inputs[0], dict(node.arguments)
    weight = parameters.get(node.parameters.get("weight", ""))
    bias = parameters.get(node.parameters.get("bias", ""))
    of_maps = node.operation.endswith("2d") or node.operation in ("pad", "interpolate")
    if x.ndim == 3 and of_maps and node.operation not in ("dropout2d", "layer_norm2d"):
        # A sequence is a map of one row here, as in fastcnn's backends.
        flat = replace(
            node,
            input_shapes=((*node.input_shapes[0][:1], 1, *node.input_shapes[0][1:]),),
            output_shape=(node.output_shape[0], 1, *node.output_shape[1:]),
        )
        if weight is not None:
            parameters = parameters | {node.parameters["weight"]: weight[:, :, None]}
        return apply_node(flat, [x[:, :, None]], parameters, training)[:, :, 0]
    match node.operation:
        case "conv2d":
            (top, bottom), (left, right) = a["padding"]
            if (top, left) != (bottom, right):
                x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
            return F.conv2d(x, weight, bias, a["stride"], (top, left), a["dilation"], a["groups"])
        case "conv_transpose2d":
            (top, _), (left, _) = a["padding"]
            return F.conv_transpose2d(
                x,
                weight,
                bias,
                a["stride"],
                (top, left),
                a["output_padding"],
                a["groups"],
                a["dilation"],
            )
        case "linear":
            return F.linear(x, weight, bias)
        case name if name in ALIKE:
            return getattr(F, name)(x, **a)
        case "adaptive_avg_pool2d" | "adaptive_max_pool2d":
            return getattr(F, node.operation)(x, node.output_shape[1:])
        case "pad":
            (top, bottom), (left, right) = a["padding"]
            return F.pad(x, (left, right, top, bottom), a["mode"])
        case "interpolate":
            corners = a["align_corners"] if a["mode"] == "bilinear" else None
            return F.interpolate(x, a["size"], a["scale_factor"], a["mode"], corners)
        case "unflatten":
            return x.unflatten(1, a["shape"])
        case "flatten":
            return x.flatten(1)
        case "add" | "subtract" | "multiply":
            return getattr(torch, node.operation)(x, inputs[1])
        case "input_part":
            start, shape = a["start"], node.output_shape
            return x[:, start : start + int(np.prod(shape))].reshape(-1, *shape)
        case "concat":
            return torch.cat(inputs, 1)
        case "narrow":
            return x.narrow(1, a["start"], a["length"])
        case "dropout" | "dropout2d":
            return getattr(F, node.operation)(x, a["p"], training)
        case "batch_norm":
            mean, var = (parameters.get(f"{node.name}.running_{what}") for what in ("mean", "var"))
            return F.batch_norm(x, mean, var, weight, bias, training, a["momentum"], a["eps"])
        case "layer_norm" | "group_norm":
            return getattr(F, node.operation)(x, weight=weight, bias=bias, **a)
        case "rms_norm":
            return F.rms_norm(x, weight=weight, **a)
        case "layer_norm2d":
            channels_last = x.permute(0, 2, 3, 1)
            made = F.layer_norm(channels_last, node.output_shape[:1], weight, bias, a["eps"])
            return made.permute(0, 3, 1, 2)
        case "scale":
            (factors,) = (parameters[key] for key in node.parameters.values())
            return x * factors.reshape(-1, *(1,) * (x.ndim - 2))
        case name if isinstance(OPERATIONS[name], Elementwise):
            return getattr(F, name)(x, *(parameters[key] for key in node.parameters.values()), **a)
    raise ConfigurationError(f"the PyTorch contestant has no {node.operation}")


def make_module(graph: Graph, state: dict[str, np.ndarray], learned: set[str]) -> Any:
    """A ``torch.nn.Module`` of a graph with copies of its parameters and buffers."""
    import torch

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.names = {}
            for index, (key, value) in enumerate(state.items()):
                self.names[key] = f"p{index}"
                tensor = torch.from_numpy(value.copy())
                if key in learned:
                    self.register_parameter(f"p{index}", torch.nn.Parameter(tensor))
                else:
                    self.register_buffer(f"p{index}", tensor)

        def forward(self, x: Any) -> Any:
            parameters = {key: getattr(self, name) for key, name in self.names.items()}
            return run_graph(
                graph, x, lambda node, inputs: apply_node(node, inputs, parameters, self.training)
            )

    return Module()


def layer_run(
    variant: str, case: LayerCase, arrays: Arrays, backward: bool, threads: int
) -> LayerRun:
    """One layer forward, or its gradients from what its forward pass saved."""
    import torch
    import torch._functorch.config as functorch

    def tensor(array: np.ndarray) -> Any:
        made = torch.from_numpy(array.copy())
        if variant != "eager" and made.ndim == 4:
            made = made.contiguous(memory_format=torch.channels_last)
        return made

    node = case.node(arrays.x.shape[1:], arrays.y.shape[1:])

    def layer(*tensors: Any) -> Any:
        return apply_node(node, *arrays.named(tensors), True)

    wanted = [tensor(value) for value in arrays.taken]
    grad = tensor(arrays.grad)
    run = compiled(layer) if variant == "compile" else layer

    def forward() -> Any:
        with torch.inference_mode():
            return (run(*wanted),)

    def gradients() -> Any:
        return torch.autograd.grad(output, wanted, grad, retain_graph=True)

    step = gradients if backward else forward
    torch.set_num_threads(threads)
    if backward:
        for value in wanted:
            value.requires_grad_()
        # A compiled backward pass may otherwise overwrite what the forward pass saved.
        with functorch.patch(donated_buffer=False):
            output = run(*wanted)
            gradients()

    def repeat(times: int) -> Any:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        for _ in range(times):
            made = step()
        return made

    return LayerRun(
        repeat, lambda: tuple(value.detach().contiguous().numpy() for value in repeat(1))
    )


def compiled(module: Any) -> Any:
    """A module through ``torch.compile``, specialised for the shapes it is called with."""
    import torch
    import torch._inductor

    # The scatter of max pooling's gradient was scheduled after the convolution that reads it, so
    # the weights before it were not updated (pytorch/pytorch#185509, in 2.13).
    order = {"reorder_for_peak_memory": False}
    torch._dynamo.reset()  # modules share code, of which at most eight versions are compiled
    known = order.keys() <= set(torch._inductor.list_options())
    return torch.compile(module, dynamic=False, options=dict(order) if known else None)


def sgd(module: Any, lr: float, momentum: float) -> Any:
    """SGD whose step is one fused kernel: at most half the time of the default's loop."""
    import torch

    return torch.optim.SGD(module.parameters(), lr=lr, momentum=momentum, fused=True)


class TorchTrainer(Trainer):
    """Training by PyTorch on tensors in memory.

    Compiled modules use channels_last as well, which was as fast as the default or faster.
    """

    def __init__(self, work: Work, variant: str, threads: int) -> None:
        import torch

        self.threads = threads
        model = work.model()
        state = dict(model.state_dict())
        self.module = make_module(model.graph(), state, learned_keys(model))
        self.batches = work.batches(torch.from_numpy)
        if variant != "eager":
            layout = torch.channels_last
            self.module = self.module.to(memory_format=layout)
            self.batches = [(x.contiguous(memory_format=layout), y) for x, y in self.batches]
        self.optimizer = sgd(self.module, LEARNING_RATE, MOMENTUM)
        self.criterion = torch.nn.CrossEntropyLoss()
        self.run = self.module
        if variant == "compile":
            self.run = compiled(self.module)

    def train(self, steps: int) -> None:
        """Run steps on the trainer's own number of threads."""
        import torch

        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        super().train(steps)

    def take(self, x: Any, y: Any) -> Any:
        """Run one step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.criterion(self.run(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def loss(self) -> float:
        """Loss of the last step's batch."""
        return float(self.last.detach())

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of parameters and buffers, by fastcnn's keys."""
        return {
            key: getattr(self.module, name).detach().contiguous().numpy().copy()
            for key, name in self.module.names.items()
        }


def _peer(variant: str) -> Peer:
    maps_only = variant == "channels_last"
    return Peer(
        f"PyTorch {variant}",
        lambda work, threads: TorchTrainer(work, variant, threads),
        partial(layer_run, variant),
        takes_layer=lambda case, backward: not maps_only or len(case.shape) == 3,
        on_each=True,
    )


PEERS = tuple(_peer(variant) for variant in VARIANTS)
