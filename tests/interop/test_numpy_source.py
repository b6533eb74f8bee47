"""A network's numpy file computes the model's predictions, and imports nothing else."""

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import fastcnn
from fastcnn.interop.numpy_source import export_numpy
from fastcnn.layers import Conv2d, Flatten, GlobalAvgPool2d, Linear, MaxPool2d, Sequential
from tests.interop.test_c_export import (
    ending_in_softmax,
    networks,
    sample_networks,
    samples_for,
    sequence_networks,
)

NETWORKS = networks() | sample_networks() | sequence_networks()


def imported(path: Path) -> ModuleType:
    module = ModuleType(path.stem)
    exec(compile(path.read_text(), path.name, "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("name", NETWORKS)
def test_it_predicts_what_the_model_does(name: str, tmp_path: Path) -> None:
    model = NETWORKS[name]
    module = imported(export_numpy(model, tmp_path / "net.py"))
    for dtype in (np.uint8, np.float32):
        samples = samples_for(model, dtype, 0)
        expected = model.predict_proba(samples, backend="im2col")
        np.testing.assert_allclose(module.predict(samples), expected, atol=1e-5)
    with pytest.raises(ValueError, match="images must have the shape"):
        module.predict(np.zeros((1, 7)))


def test_it_is_readable_and_stands_alone(tmp_path: Path) -> None:
    model = fastcnn.models.report_cnn(seed=0)
    path = export_numpy(model, tmp_path / "net.py", classes=("0", "1", "2"))
    text = path.read_text()
    tree = ast.parse(text)
    found = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in found for alias in node.names}
    assert names == {"base64", "io", "math", "numpy", "sys"}
    code = text[: text.index("WEIGHTS =")]
    assert max(map(len, code.splitlines())) <= 110
    assert '    x = conv2d(x, W["conv1.weight"], W["conv1.bias"], (1, 1)' in code
    assert "def sigmoid" not in code
    x = samples_for(model, np.uint8, 0)
    np.save(tmp_path / "x.npy", x)
    done = subprocess.run(
        [sys.executable, "-I", path, tmp_path / "x.npy"], capture_output=True, text=True, check=True
    )
    printed = np.array([line.split() for line in done.stdout.splitlines()], float)
    np.testing.assert_allclose(printed, model.predict_proba(x), atol=1e-4)


def test_a_network_may_end_in_pooling(tmp_path: Path) -> None:
    model = Sequential(Conv2d(1, 3, 3, seed=0), GlobalAvgPool2d(), Flatten(), input_shape=(1, 8, 8))
    path = export_numpy(model, tmp_path / "net.py")
    x = samples_for(model, np.float32, 0)
    np.testing.assert_allclose(imported(path).predict(x), model.predict_proba(x), atol=1e-6)
    assert "def adaptive_pool2d" in path.read_text()
    assert "def avg_pool2d" not in path.read_text()


def test_maps_are_flattened_at_the_end(tmp_path: Path) -> None:
    model = Sequential(MaxPool2d(2), Flatten(), input_shape=(1, 4, 4))
    model.predicts = "values"
    x = np.arange(32, dtype=np.float32).reshape(2, 1, 4, 4)
    made = imported(export_numpy(model, tmp_path / "net.py")).predict(x)
    np.testing.assert_array_equal(made, model.logits(x))


def test_values_stay_values(tmp_path: Path) -> None:
    model = Sequential(Linear(3, 2, seed=0), input_shape=(3,))
    model.predicts = "values"
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    made = imported(export_numpy(model, tmp_path / "net.py")).predict(x)
    np.testing.assert_allclose(made, model.logits(x), rtol=1e-5)


def test_a_network_that_ends_in_a_softmax_has_one(tmp_path: Path) -> None:
    model = ending_in_softmax()
    samples = np.random.default_rng(0).standard_normal((4, *(model.input_shape or ())))
    found = imported(export_numpy(model, tmp_path / "net.py")).predict(samples)
    np.testing.assert_allclose(found, model.predict_proba(samples), atol=1e-6)
