"""ONNX files under onnxruntime, and back; weights from and for PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.errors import CheckpointError, ConfigurationError, DataError
from fastcnn.execution import forward
from fastcnn.interop import export_onnx, import_onnx, load_state, save_state
from fastcnn.layers import (
    GELU,
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    SiLU,
    Softplus,
)
from fastcnn.training.run import Run
from tests.command import fastcnn as command

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")

SHAPE = (4, 9, 8)
LAYERS: dict[str, Any] = {
    "conv": lambda: [Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0), groups=2, seed=0)],
    "conv same": lambda: [Conv2d(4, 3, (4, 3), padding="same", dilation=(1, 2), seed=0)],
    "conv without bias": lambda: [Conv2d(4, 3, 3, dilation=2, padding=2, bias=False, seed=0)],
    "transposed": lambda: [
        ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, seed=0)
    ],
    "max pool": lambda: [MaxPool2d(3, 2, 1)],
    "average pool": lambda: [AvgPool2d(3, 2, 1)],
    "average pool inside": lambda: [AvgPool2d((2, 3), 1, 1, count_include_pad=False)],
    "global": lambda: [GlobalAvgPool2d()],
    "adaptive": lambda: [AdaptiveAvgPool2d((3, 4))],
    "adaptive uneven": lambda: [AdaptiveAvgPool2d((2, 3))],
    "adaptive larger": lambda: [AdaptiveAvgPool2d((12, 3)), AdaptiveAvgPool2d((None, 2))],
    "two padded sides": lambda: [Conv2d(4, 3, 3, padding=((0, 2), (1, 0)), stride=2, seed=0)],
    "formula of a formula": lambda: [
        SiLU(), GELU(), GELU(approximate="tanh"), Softplus(beta=2.0), Softplus(beta=0.5), GELU()
    ],
    "batch norm": lambda: [BatchNorm2d(4)],
    "batch norm without weights": lambda: [BatchNorm2d(4, affine=False, eps=1e-3)],
    "batch norm of vectors": lambda: [Flatten(), BatchNorm1d(288)],
    "linear": lambda: [Flatten(), Linear(288, 5, seed=0), Linear(5, 3, bias=False, seed=1)],
    "residual": lambda: [
        Residual(Sequential(Conv2d(4, 4, 3, padding=1, seed=0), BatchNorm2d(4), ReLU())),
        Residual(Sequential(Conv2d(4, 2, 1, seed=1)), Conv2d(4, 2, 1, seed=2)),
    ],
    "dropout": lambda: [Dropout(0.5), ReLU(), Dropout2d(0.3), Dropout2d(1)],
}  # fmt: skip


def make(name: str) -> Sequential:
    model = Sequential(*LAYERS[name](), input_shape=SHAPE)
    generator = np.random.default_rng(1)
    for key, value in model.state_dict().items():
        if "running" in key or "bias" in key:
            value[...] = generator.uniform(0.5, 1.5, value.shape)
    return model


def run(path: Path, x: np.ndarray | dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = x if isinstance(x, dict) else {session.get_inputs()[0].name: x}
    return session.run(None, given)[0]


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_there_and_back(name: str, tmp_path: Path) -> None:
    model = make(name)
    export_onnx(model, tmp_path / "m.onnx")
    for count in (1, 5):
        x = np.random.default_rng(count).standard_normal((count, *SHAPE)).astype(np.float32)
        expected = forward(model, x)
        assert run(tmp_path / "m.onnx", x) == pytest.approx(expected, abs=1e-5)
    back = import_onnx(tmp_path / "m.onnx")
    assert forward(back, x) == pytest.approx(expected, abs=1e-5)
    kinds = [type(layer) for _, layer in model.named_leaves()]
    if name not in ("adaptive", "dropout", "residual"):
        assert [type(layer) for _, layer in back.named_leaves()] == kinds


@pytest.mark.parametrize("name", ["report_cnn", "lenet5", "resnet8"])
def test_networks(name: str, tmp_path: Path) -> None:
    model = getattr(fastcnn.models, name)(seed=0)
    x = np.random.default_rng(0).standard_normal((3, *model.input_shape)).astype(np.float32)
    export_onnx(model, tmp_path / "m.onnx")
    expected = model.logits(x)
    assert run(tmp_path / "m.onnx", x) == pytest.approx(expected, abs=1e-5)
    back = import_onnx(tmp_path / "m.onnx")
    assert back.logits(x) == pytest.approx(expected, abs=1e-5)
    assert back.num_parameters == model.num_parameters
    fastcnn.fit(back, (x, [0, 1, 2]), epochs=1, batch_size=3)  # goes on training


def test_files_that_are_no_good(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="not an ONNX file"):
        import_onnx(tmp_path / "m.onnx")
    with pytest.raises(DataError, match=r"none\.onnx: no such file"):
        import_onnx(tmp_path / "none.onnx")
    untracked = Sequential(BatchNorm2d(4, track_running_stats=False), input_shape=SHAPE)
    with pytest.raises(ConfigurationError, match="layer '0': ONNX needs running statistics"):
        export_onnx(untracked, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_weights_by_other_names(tmp_path: Path) -> None:
    model = fastcnn.models.lenet5(seed=0)
    save_state(model, tmp_path / "m.safetensors")
    other = fastcnn.models.lenet5(seed=1)
    load_state(other, tmp_path / "m.safetensors")
    assert (other.parameter_vector == model.parameter_vector).all()
    chain = Sequential({"features": Conv2d(1, 6, 5, seed=3)}, input_shape=(1, 28, 28))
    save_state(chain, tmp_path / "c.safetensors")
    renamed = Sequential({"conv1": Conv2d(1, 6, 5, seed=4)}, input_shape=(1, 28, 28))
    load_state(renamed, tmp_path / "c.safetensors", {"features": "conv1"})
    assert (renamed.parameter_vector == chain.parameter_vector).all()
    before = renamed.parameter_vector.copy()
    with pytest.raises(CheckpointError, match=r"conv1\.weight"):
        load_state(renamed, tmp_path / "m.safetensors", {"conv1": "nothing"})
    swapped = Sequential(
        {"b": Conv2d(1, 2, 1, seed=0), "a": Conv2d(2, 1, 1, seed=1)}, input_shape=(1, 4, 4)
    )
    crossed = Sequential(
        {"a": Conv2d(1, 2, 1, seed=2), "b": Conv2d(2, 1, 1, seed=3)}, input_shape=(1, 4, 4)
    )
    save_state(swapped, tmp_path / "s.safetensors")
    load_state(crossed, tmp_path / "s.safetensors", {"a": "b", "b": "a"})
    assert (crossed.parameter_vector == swapped.parameter_vector).all()
    with pytest.raises(CheckpointError, match="two arrays would be called"):
        load_state(crossed, tmp_path / "s.safetensors", {"a": "b"})
    from safetensors.numpy import save_file

    wrapped = {f"module.{key}": value for key, value in chain.state_dict().items()}
    save_file(wrapped, tmp_path / "w.safetensors")
    load_state(renamed, tmp_path / "w.safetensors", {"module": "", "module.features": "conv1"})
    (tmp_path / "bad.safetensors").write_bytes(b"12345678")
    with pytest.raises(CheckpointError, match="damaged"):
        load_state(renamed, tmp_path / "bad.safetensors")
    assert (renamed.parameter_vector == before).all()


@pytest.mark.torch
def test_pytorch_and_back(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.torch import load_file, save_file

    ours = fastcnn.models.report_cnn(seed=0)
    save_state(ours, tmp_path / "m.safetensors")
    state = load_file(tmp_path / "m.safetensors")
    x = np.random.default_rng(0).standard_normal((4, 1, 28, 28)).astype(np.float32)

    def theirs(weights: Any) -> np.ndarray:
        F = torch.nn.functional
        t = torch.from_numpy(x)
        for layer, padding in zip(
            ("conv1", "conv2"), [node.arguments["padding"][0][0] for node in ours.graph().nodes
                                 if node.operation == "conv2d"], strict=True,
        ):  # fmt: skip
            t = F.conv2d(t, weights[f"{layer}.weight"], weights[f"{layer}.bias"], padding=padding)
            t = F.max_pool2d(F.relu(t), 2)
        t = t.flatten(1)
        for layer in ("fc1", "fc2"):
            t = F.relu(F.linear(t, weights[f"{layer}.weight"], weights[f"{layer}.bias"]))
        return F.linear(t, weights["fc3.weight"], weights["fc3.bias"]).numpy()

    assert theirs(state) == pytest.approx(ours.logits(x), abs=1e-5)
    other = {key: torch.randn_like(value) * 0.1 for key, value in state.items()}
    save_file(other, tmp_path / "t.safetensors")
    load_state(ours, tmp_path / "t.safetensors")
    assert ours.logits(x) == pytest.approx(theirs(other), abs=1e-5)


@pytest.mark.torch
def test_a_trained_report_network_in_pytorch_and_back(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.torch import load_file, save_file

    train, test = fastcnn.data.digits_dataset(600, 200, classes=(0, 1, 2))
    ours = fastcnn.models.report_cnn(seed=0)
    fastcnn.fit(ours, train, test, epochs=2)
    nn = torch.nn

    class Report(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, layer in ours.layers.items():
                if isinstance(layer, Conv2d):
                    theirs = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size,
                                       padding=layer.padding)  # fmt: skip
                elif isinstance(layer, Linear):
                    theirs = nn.Linear(layer.in_features, layer.out_features)
                else:
                    theirs = {"ReLU": nn.ReLU(), "MaxPool2d": nn.MaxPool2d(2),
                              "Flatten": nn.Flatten()}[type(layer).__name__]  # fmt: skip
                self.add_module(name, theirs)

        def forward(self, x: Any) -> Any:
            for layer in self.children():
                x = layer(x)
            return x

    module = Report()
    x = ours.preprocessing.apply(test.images)
    save_state(ours, tmp_path / "ours.safetensors")
    module.load_state_dict(load_file(tmp_path / "ours.safetensors"))
    with torch.no_grad():
        theirs = module(torch.from_numpy(x)).numpy()
    assert theirs == pytest.approx(ours.logits(test.images), abs=1e-4, rel=1e-5)
    assert (theirs.argmax(axis=1) == ours.predict(test.images)).all()
    assert (theirs.argmax(axis=1) == test.labels).mean() > 0.9

    optimizer = torch.optim.SGD(module.parameters(), lr=0.02)
    for _ in range(3):  # trained on by PyTorch
        optimizer.zero_grad()
        nn.functional.cross_entropy(
            module(torch.from_numpy(x)), torch.from_numpy(test.labels)
        ).backward()
        optimizer.step()
    save_file(module.state_dict(), tmp_path / "theirs.safetensors")
    back = fastcnn.models.report_cnn(seed=1)
    load_state(back, tmp_path / "theirs.safetensors")
    with torch.no_grad():
        theirs = module(torch.from_numpy(x)).numpy()
    assert (back.predict(x) == theirs.argmax(axis=1)).all()


def test_models_of_doubles_become_float32(tmp_path: Path) -> None:
    model = make("conv").to(np.float64)
    export_onnx(model, tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)
    assert run(tmp_path / "m.onnx", x) == pytest.approx(forward(model, x.astype(float)), abs=1e-5)


def test_an_imported_chain_can_be_a_run(tmp_path: Path) -> None:
    model = fastcnn.models.lenet5(seed=0)
    export_onnx(model, tmp_path / "m.onnx")
    back = import_onnx(tmp_path / "m.onnx")
    assert list(back.state_dict()) == list(model.state_dict())
    x = np.random.default_rng(0).standard_normal((8, 1, 28, 28)).astype(np.float32)
    fastcnn.fit(back, (x, np.arange(8)), epochs=1, out=tmp_path / "run")
    assert (Run.open(tmp_path / "run").load_model().logits(x) == back.logits(x)).all()


def test_command_line(tmp_path: Path) -> None:
    archive, out = tmp_path / "d.npz", tmp_path / "run"
    train, test = fastcnn.data.digits_dataset(60, 10, classes=(0, 1, 2))
    fastcnn.data.write_npz(archive, train, test)
    command("train", "--data", archive, "--epochs", 1, "--out", out)
    for target in ("m.onnx", "m.safetensors"):
        command("export", out, "--out", tmp_path / target)
    model = Run.open(out).load_model()
    x = train.images[:4].astype(np.float32) / 255
    assert run(tmp_path / "m.onnx", x) == pytest.approx(model.logits(train.images[:4]), abs=1e-5)
    output = command("export", out, "--out", "m.txt", code=2)
    assert "must end in .onnx, .safetensors" in output
