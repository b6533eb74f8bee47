"""Files of both PyTorch exporters for small networks, with fixed and open batch size."""

import functools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from fastcnn.data.dataset import ArrayDataset  # noqa: E402
from fastcnn.execution.executors import make_executor  # noqa: E402
from fastcnn.interop import export_onnx, import_onnx  # noqa: E402
from fastcnn.losses import CrossEntropyLoss  # noqa: E402
from fastcnn.optim import SGD  # noqa: E402
from tests.interop import exported_modules as modules  # noqa: E402

#: Tested in every run: together they use all operators.
FAST = (
    *("mobilenet_v3", "shufflenet", "senet", "convnext", "unet_size", "vae", "siamese", "pads"),
    *("affine", "gated", "nhwc", "nhwc_pixels", "two_heads", "norms", "pixels", "poolings"),
    *("local_response", "convnext_pool"),
)
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


def _cases() -> list[Any]:
    return [
        pytest.param(
            name, dynamo, dynamic,
            marks=() if name in FAST and dynamic else pytest.mark.slow,
            id=f"{name}-{'dynamo' if dynamo else 'script'}-{'open' if dynamic else 'fixed'}",
        )
        for name in modules.MODULES
        for dynamo in (False, True)
        for dynamic in (False, True)
        if (name, dynamo) not in modules.UNKNOWN
    ]  # fmt: skip


def _arrays(found: Any) -> list[np.ndarray]:
    if isinstance(found, dict):
        found = list(found.values())
    several = isinstance(found, (tuple, list))
    return [np.asarray(array) for array in (found if several else [found])]


def _run(path: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    made: list[np.ndarray] = session.run(None, dict(zip(names, inputs, strict=True)))
    return made


Exported = Callable[[str, bool, bool], tuple[Any, Path]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Modules and their files, each exported once: exporting takes longer than all tests of it."""
    folder = tmp_path_factory.mktemp("exported")

    @functools.cache
    def export(name: str, dynamo: bool, dynamic: bool) -> tuple[Any, Path]:
        path = folder / f"{name}-{dynamo}-{dynamic}.onnx"
        return modules.export(name, path, dynamo, dynamic), path

    return export


@pytest.mark.parametrize(("name", "dynamo", "dynamic"), _cases())
def test_import_and_back(
    name: str, dynamo: bool, dynamic: bool, exported: Exported, tmp_path: Path
) -> None:
    _, path = exported(name, dynamo, dynamic)
    inputs = [x.numpy() for x in modules.samples(name, 2)]
    expected = _run(path, inputs)
    model = import_onnx(path)
    # The file's channels-last inputs are channels-first in the model.
    given = [x.transpose(0, 3, 1, 2) if name.startswith("nhwc") else x for x in inputs]
    found = _arrays(model.logits(given[0] if len(given) == 1 else tuple(given)))
    export_onnx(model, tmp_path / "back.onnx")
    back = import_onnx(tmp_path / "back.onnx")
    again = _arrays(back.logits(given[0] if len(given) == 1 else tuple(given)))
    for values in (found, _run(tmp_path / "back.onnx", given), again):
        assert len(values) == len(expected)
        for value, wanted in zip(values, expected, strict=True):
            assert value.shape == wanted.shape
            assert value == pytest.approx(wanted, abs=1e-5 * max(1.0, float(np.abs(wanted).max())))
    kinds = [Counter(type(layer) for _, layer in made.named_leaves()) for made in (model, back)]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("name", ["mobilenet_v3", "shufflenet", "senet", "convnext", "nhwc"])
def test_gradients(name: str, exported: Exported) -> None:
    """Gradients of common weights: batch normalisation was folded into others."""
    module, path = exported(name, True, True)
    model = import_onnx(path)
    (x,) = modules.samples(name, 4)
    labels = np.arange(4) % 3
    module.zero_grad()
    torch.nn.functional.cross_entropy(module(x), torch.as_tensor(labels)).backward()
    images = x.numpy().transpose(0, 3, 1, 2) if name == "nhwc" else x.numpy()
    executor = make_executor(
        model, loss=CrossEntropyLoss(), optimizer=SGD(lr=0.1), backend="lanes", batch_size=4
    )
    _, _, flat = executor.gradient(ArrayDataset(np.ascontiguousarray(images), labels), np.arange(4))
    found, first = [], 0
    for array in model.named_parameters().values():
        found.append((array, flat[first : first + array.size].reshape(array.shape)))
        first += array.size
    compared = 0
    for parameter in module.parameters():
        for array, gradient in found:
            values = parameter.detach().numpy()
            same = np.array_equal(array.ravel(), values.ravel())
            if same and np.ptp(values) > 0:
                wanted = parameter.grad.numpy()
                assert gradient.ravel() == pytest.approx(wanted.ravel(), rel=1e-3, abs=1e-5)
                compared += 1
    assert compared >= 2
