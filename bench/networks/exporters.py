"""Whether fastcnn reads a network from PyTorch's two exporters, with fixed and open batch size."""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from bench.networks.check import apart, without_dropout
from bench.networks.tasks import Task
from fastcnn.backends.graph import Graph, Node
from fastcnn.benchmark.pytorch import apply_node, make_module
from fastcnn.errors import FastcnnError
from fastcnn.execution import predict_logits
from fastcnn.execution.checks import bound_loss
from fastcnn.interop import import_onnx
from fastcnn.interop.onnx_export import results
from fastcnn.layers import Model

#: For each name whether it uses the dynamo exporter, and whether the batch size is open.
WAYS = {
    "script_fixed": (False, False),
    "script_open": (False, True),
    "dynamo_fixed": (True, False),
    "dynamo_open": (True, True),
}
#: Samples in the exported batch.
SAMPLES = 2


def network(model: Model, generator: np.random.Generator) -> Any:
    """A model as a PyTorch module with the usual interface: one tensor per input and output.

    Running statistics differ from those of a new network.
    """
    import torch

    graph = model.graph()
    ends = results(graph)
    state = dict(model.state_dict())
    for key, value in state.items():
        if key.endswith("running_mean"):
            value[...] = 0.1 * generator.standard_normal(value.shape)
        elif key.endswith("running_var"):
            value[...] = generator.uniform(0.5, 1.5, value.shape)

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = make_module(graph, state, set(model.named_parameters()))

        def forward(self, *given: Any) -> Any:
            names = self.inner.names
            parameters = {key: getattr(self.inner, name) for key, name in names.items()}
            parts = dict(zip((port.name for port in graph.inputs), given, strict=False))
            values: list[Any] = []
            for node in graph.nodes[: max(source for source, _ in ends.values()) + 1]:
                if node.operation == "input_part":
                    values.append(parts[node.name])
                    continue
                read = [given[0] if source < 0 else values[source] for source in node.inputs]
                values.append(_as_written(node, read, parameters))
            made = tuple(values[source] for source, _ in ends.values())
            return made if len(made) > 1 else made[0]

    return Network().eval()


def _as_written(node: Node, inputs: list[Any], parameters: dict[str, Any]) -> Any:
    """One node in its usual PyTorch form, where the one used for comparisons is unusual."""
    import torch.nn.functional as F

    x, a = inputs[0], node.arguments
    if node.operation == "channel_shuffle":
        return x.unflatten(1, (a["groups"], -1)).transpose(1, 2).flatten(1, 2)
    if x.ndim == 3 and node.operation in ("conv2d", "max_pool2d", "avg_pool2d"):
        # Sequences, which are maps of one row elsewhere.
        given = {k: v[1] if isinstance(v, tuple) else v for k, v in a.items()}
        if node.operation != "conv2d":
            return getattr(F, node.operation.replace("2d", "1d"))(x, **given)
        before, after = given.pop("padding")
        weight, bias = (parameters.get(node.parameters.get(k, "")) for k in ("weight", "bias"))
        padding = before if before == after else 0
        x = x if before == after else F.pad(x, (before, after))
        return F.conv1d(x, weight, bias, padding=padding, **given)
    return apply_node(node, inputs, parameters, training=False)


def samples(graph: Graph, x: np.ndarray) -> tuple[Any, ...]:
    """The tensor of each input, from samples that hold all inputs one after the other."""
    import torch

    parts = [x[:, p.start : p.stop].reshape(len(x), *p.shape) for p in graph.inputs] or [x]
    return tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in parts)


def write(module: Any, inputs: tuple[Any, ...], path: Path, dynamo: bool, is_open: bool) -> None:
    """Call ``torch.onnx.export``."""
    import torch

    names = [f"x{place}" for place in range(len(inputs))]
    options: dict[str, Any] = {"dynamo": dynamo, "input_names": names}
    if dynamo:
        options["verbose"] = False
        if is_open:
            # The module takes any number of tensors.
            options["dynamic_shapes"] = (tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs),)
    elif is_open:
        options["dynamic_axes"] = {name: {0: "n"} for name in names}
    with _silence(), torch.no_grad():
        torch.onnx.export(module, inputs, path, **options)


@contextmanager
def _silence() -> Iterator[None]:
    """Silence the exporters' warnings, which are about themselves."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def check_exporters(task: Task, ways: tuple[str, ...] = tuple(WAYS)) -> dict[str, Any]:
    """A record of one network: for each exporter the largest difference, or why there is none.

    The difference is between the outputs of the imported network and PyTorch's, relative to the
    largest.
    """
    model = without_dropout(task.model())
    loss = bound_loss(model, task.goal.loss())
    module = network(model, np.random.default_rng(2))
    x, _, _ = task.samples(model, loss, SAMPLES)
    inputs = samples(model.graph(), x)
    made = module(*inputs)
    outputs = made if isinstance(made, tuple) else (made,)
    expected = np.concatenate([o.detach().numpy().reshape(len(x), -1) for o in outputs], 1)
    record: dict[str, Any] = {"network": task.name, "title": task.title}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        for way in ways:
            record |= {way: None, f"{way}_reason": ""}
            try:
                write(module, inputs, path, *WAYS[way])
            except Exception as error:  # whatever an exporter raises counts as a refusal
                record[f"{way}_reason"] = f"PyTorch: {str(error).splitlines()[0][:80]}"
                continue
            try:
                back = import_onnx(path)
            except FastcnnError as error:
                record[f"{way}_reason"] = str(error).removeprefix(f"{path}: ")
                continue
            record[way] = apart(predict_logits(back, x, backend="im2col"), expected)
    return record
