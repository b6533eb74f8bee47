"""Comparison of runs."""

import json
from pathlib import Path

import pytest

import fastcnn
from fastcnn.analysis.runs import compare_runs
from fastcnn.errors import CheckpointError, ConfigurationError
from fastcnn.optim import SGD, Adam
from fastcnn.training import fit
from fastcnn.training.figure import save_figure


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    train, test = fastcnn.data.digits_dataset(200, 60, classes=(0, 1, 2))
    for name, optimizer, epochs in (("a", SGD(lr=0.05), 2), ("b", Adam(), 3)):
        model = fastcnn.models.report_cnn(seed=0)
        fit(model, train, test, epochs=epochs, optimizer=optimizer, out=folder / name)
    return [folder / "a", folder / "b"]


def test_differences_are_named(runs: list[Path], tmp_path: Path) -> None:
    comparison = compare_runs(runs)
    first, second = comparison.rows
    assert (first.name, second.name) == ("a", "b")
    assert first.settings["optimizer.name"] == "sgd"
    assert first.settings["training.epochs"] == "2"
    assert "training.batch_size" not in first.settings
    assert "model.parameters" not in first.settings
    assert comparison.differences[0].startswith("a: optimizer=sgd, lr=0.05, ")
    last = json.loads((runs[0] / "metrics.jsonl").read_text().splitlines()[-1])
    assert first.last("test_accuracy") == last["test_accuracy"]
    assert second.best("test_loss") == min(epoch["test_loss"] for epoch in second.epochs)
    assert f"{100 * last['test_accuracy']:.2f} %" in comparison.table()
    figure = comparison.figure()
    lines = figure.axes[1].get_lines()
    assert [len(line.get_xdata()) for line in lines] == [2, 3]
    save_figure(figure, tmp_path / "compare.png")
    assert (tmp_path / "compare.png").stat().st_size > 1000


def test_networks_differ_by_their_names_or_else_by_their_layers(tmp_path: Path) -> None:
    train, _ = fastcnn.data.digits_dataset(60, 1, classes=(0, 1, 2))
    models: dict[str, fastcnn.Model] = {
        f"own{size}": fastcnn.Sequential(
            fastcnn.Flatten(), fastcnn.Linear(784, size, seed=0), fastcnn.Linear(size, 3, seed=1),
            input_shape=(1, 28, 28),
        )
        for size in (4, 6)
    }  # fmt: skip
    for name, model in models.items():
        fit(model, train, epochs=1, out=tmp_path / name)
    for name in ("relu", "tanh"):
        fit(
            fastcnn.models.report_cnn(seed=0, activation=name), train, epochs=1, out=tmp_path / name
        )
        config = tmp_path / name / "config.json"
        described = json.loads(config.read_text())
        del described["checksum"]
        described["model"] |= {"name": "report_cnn", "arguments": {"activation": name}}
        config.write_text(json.dumps(described))
    assert compare_runs([tmp_path / "own4", tmp_path / "own6"]).differences == [
        "own4: parameters=3155, 1=Linear(784, 4), 2=Linear(4, 3)",
        "own6: parameters=4731, 1=Linear(784, 6), 2=Linear(6, 3)",
    ]
    assert compare_runs([tmp_path / "relu", tmp_path / "tanh"]).differences == [
        "relu: activation=relu", "tanh: activation=tanh",
    ]  # fmt: skip


def test_runs_of_one_name_are_told_apart(runs: list[Path], tmp_path: Path) -> None:
    for parent in ("x", "y"):
        (tmp_path / parent / "run").mkdir(parents=True)
        for file in ("config.json", "metrics.jsonl"):
            (tmp_path / parent / "run" / file).write_bytes((runs[0] / file).read_bytes())
    comparison = compare_runs([tmp_path / "x" / "run", tmp_path / "y" / "run"])
    assert [row.name for row in comparison.rows] == ["x/run", "y/run"]
    assert comparison.differences == ["x/run: nothing", "y/run: nothing"]


def test_what_cannot_be_compared(runs: list[Path], tmp_path: Path) -> None:
    for folders in (runs[:1], [runs[0], runs[0] / ".." / "a"]):
        with pytest.raises(ConfigurationError, match="two or more different runs"):
            compare_runs(folders)
    with pytest.raises(CheckpointError, match="holds no run"):
        compare_runs([runs[0], tmp_path])
    (tmp_path / "config.json").write_bytes((runs[0] / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"metrics cannot be read \(No such file"):
        compare_runs([runs[0], tmp_path])
    (tmp_path / "metrics.jsonl").write_text("")
    assert compare_runs([runs[0], tmp_path]).rows[1].last("test_loss") is None
