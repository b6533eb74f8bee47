"""Records of recipes: what is timed, the file, and the page."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bench.markdown import filled
from bench.recipe_page import page, readme_records
from bench.records import Plan, measure
from fastcnn.benchmark import recipe_records
from fastcnn.benchmark.recipe_records import Own, keep, measured, new_record
from fastcnn.data import Dataset
from fastcnn.errors import ConfigurationError
from fastcnn.recipes import NamedRecipe, Record, get, names, records
from tests.benchmark.conftest import Clock
from tests.command import fastcnn
from tests.recipes.test_recipes import pictures, small


def record(recipe: str = "mnist-99", contestant: str = "fastcnn", **more: object) -> Record:
    values = {
        "accuracies": [99.0, 99.2],
        "seconds": [0.4, 0.5],
        "evaluation_seconds": 0.05,
        "threads": 2,
        "machine": "a machine",
        "date": "2026-01-01",
        "command": "python -m bench records mnist-99",
    }
    return Record(recipe, contestant, **values | more)  # type: ignore[arg-type]


def test_training_alone_is_timed(clock: Clock) -> None:
    class Fake:
        name = "fake"

        def warm(self) -> None:
            clock.compute(100.0)

        def train(self, seed: int) -> None:
            clock.compute(1.0 + seed)

        def test(self) -> float:
            clock.compute(10.0)
            return 0.5

    *_, last = measured(Fake(), new_record("mine", "fake", 1, "c"), range(3))
    assert last.seconds == [1.0, 2.0, 3.0]
    assert last.time == 2.0
    assert last.accuracies == [50.0] * 3
    assert last.evaluation_seconds == 10.0


def test_own_training(tmp_path: Path) -> None:
    data = pictures(60, classes=3)
    own = Own(small(), data, data, threads=1)
    own.warm()
    own.train(4)
    model, _ = small().run(data, seed=4)
    assert own.test() == small().evaluate(model, data).accuracy
    assert (own.model.parameter_vector == model.parameter_vector).all()


def test_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pictures(60, classes=3)
    small().write(tmp_path / "mine.toml")
    monkeypatch.setattr(NamedRecipe, "load_data", lambda self: (data, data))
    path = tmp_path / "records.json"
    keep(record(), path, Console(quiet=True))

    class Other(Own):
        name = "other"

        def __init__(self, recipe: NamedRecipe, train: Dataset, test: Dataset, threads: int):
            super().__init__(recipe, train, test, threads)
            assert threads == 1
            assert recipe.options.batch_size == 20

    plan = Plan(seeds=2, threads=1, batch_size=20, note="busy", command="me")
    for _ in range(2):
        measure(str(tmp_path / "mine.toml"), plan, [Own, Other], path, Console(quiet=True))
    found = records(path)
    assert [(each.recipe, each.contestant) for each in found] == [
        ("mine, batch 20", "fastcnn"),
        ("mine, batch 20", "other"),
        ("mnist-99", "fastcnn"),
    ]
    assert len(found[0].seconds) == 2
    assert found[0].note == "busy"


def test_seeds_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pictures(60, classes=3)
    small().write(tmp_path / "mine.toml")
    monkeypatch.setattr(NamedRecipe, "load_data", lambda self: (data, data))
    path, name = tmp_path / "records.json", str(tmp_path / "mine.toml")
    whole = tmp_path / "whole.json"
    console = Console(quiet=True)
    plan = Plan(seeds=1, threads=1, max_steps=3, more=True)
    measure(name, plan, [Own], path, console)
    (first,) = records(path)
    assert first.recipe == "mine, 3 steps"
    measure(name, replace(plan, seeds=3), [Own], path, console)
    (added,) = records(path)
    assert added.seconds[0] == first.seconds[0]
    measure(name, replace(plan, seeds=3, more=False), [Own], whole, console)
    assert added.accuracies == records(whole)[0].accuracies
    with pytest.raises(ConfigurationError, match=r"1 thread, and these would be of .*, 2 threads"):
        measure(name, replace(plan, seeds=4, threads=2), [Own], path, console)
    with monkeypatch.context() as elsewhere:
        found = recipe_records.describe_environment() | {"processor": "another"}
        elsewhere.setattr(recipe_records, "describe_environment", lambda: found)
        measure(name, replace(plan, seeds=4, threads=2, timed=False), [Own], path, console)
    (untimed,) = records(path)
    assert untimed.accuracies[:3] == added.accuracies
    assert (len(untimed.accuracies), untimed.threads) == (4, 1)
    assert untimed.machine == added.machine
    assert (untimed.seconds, untimed.evaluation_seconds) == (
        added.seconds,
        added.evaluation_seconds,
    )


def test_page() -> None:
    text = page([record(), record(contestant="PyTorch channels_last", seconds=[9.0, 9.0])])
    for name in names():
        assert f"\n### {name}\n" in text
    assert "| fastcnn | 99.10 (0.14) | 0.45 | 2 | 0.05 | a machine, 2 threads |" in text
    assert "| PyTorch channels_last | 99.10 (0.14) | 9 | 2 |" in text
    assert text.count("Not measured.") == len(names()) - 1
    text = page([record(seconds=[0.45]), record(contestant="PyTorch channels_last", seconds=[])])
    assert "| fastcnn | 99.10 (0.14) | 0.45 | 2, 1 timed | 0.05 |" in text
    assert "| PyTorch channels_last | 99.10 (0.14) |  | 2, 0 timed |" in text
    published = get("cifar10-94").published
    assert f"| {published['where']} | 94.01 | 3.83 |  |  | A100 |" in text


def test_page_is_that_of_the_records() -> None:
    committed = Path(__file__).parents[2] / "docs" / "records.md"
    assert committed.read_text(encoding="utf-8") == page(records())
    readme = (committed.parents[1] / "README.md").read_text(encoding="utf-8")
    assert filled(readme, "README.md", records=readme_records(records())) == readme


def test_readme() -> None:
    measured = [record(name) for name in ("mnist-99", "keras-mnist", "resnet20", "pytorch-mnist")]
    twin = record(contestant="PyTorch channels_last", seconds=[9.0, 9.0])
    text = readme_records([*measured, twin])
    assert [line for line in text.splitlines() if line.startswith("| `")] == [
        "| `fastcnn train --recipe` | fastcnn | PyTorch, same recipe | published |",
        "| `mnist-99` | 99.10 % in 0.45 s | 99.10 % in 9 s | 99.04 % in 0.762 s (GTX 1660 Ti) |",
        "| `pytorch-mnist` | 99.10 % in 0.45 s |  | 99.18 % in 172 s (GTX 1660 Ti) |",
        "| `keras-mnist` | 99.10 % in 0.45 s |  |  |",
    ]
    untimed = record(contestant="PyTorch channels_last", seconds=[])
    text = readme_records([*measured, untimed])
    assert "| `mnist-99` | 99.10 % in 0.45 s | 99.10 % |" in text
    assert "docs/records.md" in readme_records([])


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pictures(60, classes=3)
    small().write(tmp_path / "mine.toml")
    monkeypatch.setattr(NamedRecipe, "load_data", lambda self: (data, data))
    words = ("bench", "records", "--recipe", tmp_path / "mine.toml", "--seeds", 2)
    assert "mine, fastcnn, seed 1: " in fastcnn(*words, "--out", tmp_path)
    assert len(records(tmp_path / "records.json")[0].seconds) == 2
    assert "have no effect without the suite records" in fastcnn("bench", "--seeds", 2, code=2)
