"""Checks a network on the engine: gradients next to PyTorch's, and the round trip through ONNX."""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.networks.tasks import Task
from fastcnn import layers
from fastcnn.backends.lanes import Unsupported
from fastcnn.benchmark.pytorch import make_module
from fastcnn.errors import FastcnnError
from fastcnn.execution import predict_logits
from fastcnn.execution.checks import as_target, bound_loss
from fastcnn.execution.lanes import network_gradients
from fastcnn.execution.passes import operation_gradients, views_of
from fastcnn.execution.step import Batch, Step
from fastcnn.interop import export_onnx, import_onnx

log = logging.getLogger(__name__)
ENGINE = "engine, no workaround"
KINKED = (layers.ReLU, layers.ReLU6, layers.LeakyReLU, layers.PReLU, layers.Hardswish)
#: Differences of a gradient below this share of the largest gradient are relative to that share:
#: for example a bias before a normalisation, whose terms all cancel.
LEAST = 1e-2
#: Largest difference of outputs in the round trip through ONNX, relative to the largest output.
SAME = 1e-4


@dataclass(frozen=True)
class Pass:
    """The results of a training step of one network, computed by one library."""

    loss: float
    gradients: dict[str, np.ndarray]


@dataclass
class Check:
    """One network with samples; without dropout, whose masks differ in PyTorch.

    Attributes
    ----------
    batch : int or None
        Number of samples; None for that of the task.
    smooth : bool
        Whether SiLU and averages replace activations with kinks and maxima: then rounding changes
        gradients only slightly, not by everything that a ReLU passes or blocks.
    """

    task: Task
    batch: int | None = None
    smooth: bool = False

    def __post_init__(self) -> None:
        self.model = without_dropout(self.task.model())
        if self.smooth:
            without_kinks(self.model)
        count = self.task.batch if self.batch is None else self.batch
        self.loss = bound_loss(self.model, self.task.goal.loss())
        self.x, self.y, self.weight = self.task.samples(self.model, self.loss, count)
        self.start = self.model.copy_state()

    def own(self, backend: str) -> Pass:
        """The results of one of fastcnn's backends.

        Raises
        ------
        Unsupported
            If it is the engine, and it does not support the network.
        """
        self.model.load_state_dict(self.start)
        graph = self.model.graph()
        target = as_target(self.loss, self.y, len(self.x), graph, np.dtype(np.float32))
        batch = Batch(self.x, target, self.loss, self.weight)
        step = Step(training=True)
        if backend == "lanes":
            loss, _, vector = network_gradients(self.model, graph, batch, step)
        else:
            loss, _, vector = operation_gradients(self.model, graph, batch, backend, step)
        found = views_of(vector.copy(), self.model.named_parameters())
        return Pass(loss, {key: found[key] for key in self.trained()})

    def trained(self) -> set[str]:
        """Keys of the parameters that are not frozen."""
        users = zip(self.model.named_parameters(), self.model.parameter_users(), strict=True)
        return {key for key, places in users if places[0][0].requires_grad}

    def torch(self, dtype: Any) -> Pass:
        """PyTorch's results, in ``torch.float32`` or ``torch.float64``."""
        import torch

        learned = set(self.model.named_parameters())
        module = make_module(self.model.graph(), self.start, learned).to(dtype)
        x, y = (torch.from_numpy(array) for array in (self.x, self.y))
        x, y = (value.to(dtype) if value.is_floating_point() else value for value in (x, y))
        weight = None if self.weight is None else torch.from_numpy(self.weight).to(dtype)
        loss = self.task.goal.torch_loss(module(x), y, weight)
        loss.backward()
        tensors = {key: getattr(module, module.names[key]) for key in self.trained()}
        return Pass(
            float(loss.detach()),
            {key: tensor.grad.numpy().astype(np.float64) for key, tensor in tensors.items()},
        )

    def onnx(self) -> str:
        """What is wrong with the file or with the network read from it; empty if nothing is."""
        import onnxruntime

        self.model.load_state_dict(self.start)
        x = self.x[:4]
        expected = predict_logits(self.model, x, backend="im2col")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.onnx"
            try:
                export_onnx(self.model, path)
            except FastcnnError as error:
                return f"not written: {error}"
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            other = session.run(None, self._fed(session, x))
            if apart(np.concatenate([o.reshape(len(x), -1) for o in other], 1), expected) > SAME:
                return "ONNX Runtime's output differs"
            try:
                back = import_onnx(path)
            except FastcnnError as error:
                return f"not read: {error}"
            if apart(predict_logits(back, x, backend="im2col"), expected) > SAME:
                return "the output of what was read differs"
        return ""

    def _fed(self, session: Any, x: np.ndarray) -> dict[str, np.ndarray]:
        ports, inputs = self.model.graph().inputs, session.get_inputs()
        if not ports:
            return {inputs[0].name: x}
        parts = [x[:, p.start : p.stop].reshape(len(x), *p.shape) for p in ports]
        return {given.name: part for given, part in zip(inputs, parts, strict=True)}


def without_dropout(model: layers.Model) -> layers.Model:
    """The model with its dropouts disabled."""
    for _, layer in model.named_leaves():
        if isinstance(layer, (layers.Dropout, layers.Dropout2d)):
            layer.p = 0.0
    return model


def without_kinks(model: layers.Model) -> None:
    """Replace activations with kinks by SiLU and maxima by averages."""
    for path, layer in list(model.named_leaves()):
        if isinstance(layer, (layers.MaxPool1d, layers.MaxPool2d)):
            kind = layers.AvgPool2d if isinstance(layer, layers.MaxPool2d) else layers.AvgPool1d
            model.replace(path, kind(layer.kernel_size, layer.stride, layer.padding))
        elif isinstance(layer, layers.GlobalMaxPool1d):
            model.replace(path, layers.GlobalAvgPool1d())
        elif isinstance(layer, KINKED):
            model.replace(path, layers.SiLU())
        elif isinstance(layer, layers.Hardsigmoid):
            model.replace(path, layers.Sigmoid())


def apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference, relative to the other's largest element."""
    theirs = theirs.reshape(ours.shape)
    return float(np.abs(ours - theirs).max() / max(float(np.abs(theirs).max()), 1e-30))


def largest_difference(ours: Pass, true: Pass) -> float:
    """Largest difference of gradients, each tensor's relative to its largest true element."""
    largest = max(float(np.abs(value).max()) for value in true.gradients.values())
    found = 0.0
    for key, value in true.gradients.items():
        scale = max(float(np.abs(value).max()), LEAST * largest)
        found = max(found, float(np.abs(ours.gradients[key] - value).max()) / scale)
    return found


def check(task: Task) -> dict[str, Any]:
    """A record of one network."""
    made = Check(task)
    record: dict[str, Any] = {
        "network": task.name,
        "title": task.title,
        "source": task.source,
        "note": task.note,
        "loss": task.goal.name,
        "batch": task.batch,
        "parameters": made.model.num_parameters,
        "engine": ENGINE,
    }
    backend = "lanes"
    try:
        made.own(backend)
    except Unsupported as reason:
        record["engine"], backend = f"im2col: {reason}", "im2col"
    for prefix, compared in (("", made), ("smooth_", Check(task, smooth=True))):
        ours, theirs = differences(compared, backend)
        record |= {f"{prefix}difference": ours, f"{prefix}pytorch_difference": theirs}
    record["onnx"] = made.onnx()
    return record


def differences(made: Check, backend: str) -> tuple[float, float]:
    """Differences of our gradients, and PyTorch's in float32, from PyTorch's in float64."""
    import torch

    true = made.torch(torch.float64)
    passes = made.own(backend), made.torch(torch.float32)
    ours, theirs = (largest_difference(each, true) for each in passes)
    return ours, theirs
