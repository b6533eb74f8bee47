"""Training by named recipes from several seeds: records of seconds and accuracies."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from fastcnn.backends.lanes import default_threads
from fastcnn.benchmark.environment import describe_environment
from fastcnn.data import Dataset
from fastcnn.files import atomic_write
from fastcnn.recipes import NamedRecipe, Record, get, records
from fastcnn.recipes.records import FORMAT
from fastcnn.timing import timed
from fastcnn.training import Callback

#: Seconds of training after which everything has been compiled and loaded.
WARM = 1.0


class Trainer(Protocol):
    """Trains from a seed, and tests the result."""

    name: str

    def warm(self) -> None:
        """Train briefly, so that later times exclude one-time work."""

    def train(self, seed: int) -> None:
        """Train a new network."""

    def test(self) -> float:
        """Share of the test data that the network classifies correctly."""


class Own:
    """fastcnn itself."""

    name = "fastcnn"

    def __init__(self, recipe: NamedRecipe, train: Dataset, test: Dataset, threads: int) -> None:
        self.recipe, self.data, self.tests, self.threads = recipe, train, test, threads

    def warm(self) -> None:
        """A complete training, or its first second."""
        with suppress(_EnoughError):
            self.model, _ = self.recipe.run(
                self.data, threads=self.threads, callbacks=[_FirstSecond()], diagnose=False
            )
            self.test()

    def train(self, seed: int) -> None:
        """A complete training."""
        self.model, _ = self.recipe.run(self.data, seed=seed, threads=self.threads, diagnose=False)

    def test(self) -> float:
        """Accuracy with the recipe's test-time augmentation."""
        return self.recipe.evaluate(self.model, self.tests).accuracy


class _EnoughError(Exception):
    """Ends a warm-up training."""


class _FirstSecond(Callback):
    def on_train_begin(self, start: Any) -> None:
        self.began = time.perf_counter()

    def on_steps(self, steps: Any) -> None:
        if time.perf_counter() - self.began > WARM:
            raise _EnoughError


def new_record(
    recipe: str, contestant: str, threads: int, command: str, *, data: str = "", note: str = ""
) -> Record:
    """A record without runs, of this machine."""
    found = describe_environment()
    machine = f"{found['processor']}, {found['instruction set']}, {found['cores']} cores"
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    return Record(recipe, contestant, [], [], 0.0, threads, machine, today, command, data, note)


def measured(
    trainer: Trainer, record: Record, seeds: Sequence[int], *, keep_seconds: bool = True
) -> Iterator[Record]:
    """Train from each seed; yields a record after each, with the runs of the given one.

    A training is timed as a whole, from the data in memory to the trained model: initial weights,
    checks, augmentation and steps. Compilation precedes it, and tests are timed separately.
    """
    trainer.warm()
    tests: list[float] = []
    for seed in seeds:
        _, spent = timed(partial(trainer.train, seed))
        accuracy, testing = timed(trainer.test)
        record = replace(record, accuracies=[*record.accuracies, round(100 * accuracy, 4)])
        if keep_seconds:
            tests.append(testing)
            record = replace(
                record,
                seconds=[*record.seconds, round(spent, 4)],
                evaluation_seconds=round(median(tests), 4),
            )
        yield record


def measure(name: str, seeds: int, command: str, path: Path | None, console: Any) -> None:
    """Train by a recipe from some seeds; see :func:`keep` for what is done with each record.

    Raises
    ------
    FastcnnError
        If there is no such recipe, or its data are unavailable.
    """
    recipe = get(name)
    own = Own(recipe, *recipe.load_data(), default_threads())
    record = new_record(recipe.name, own.name, own.threads, command)
    for made in measured(own, record, range(seeds)):
        keep(made, path, console)


def keep(record: Record, path: Path | None, console: Any, *, is_timed: bool = True) -> None:
    """Print a record after its last seed, and write it if a path is given.

    In the file it replaces that of the same recipe and contestant.
    """
    if path is not None:
        known = records(path) if path.exists() else []
        kept = [each for each in known if key(each) != key(record)]
        entries = [asdict(each) for each in sorted([*kept, record], key=key)]
        content = {"format": FORMAT, "records": entries}
        atomic_write(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    last = f" in {record.seconds[-1]:.2f} s" if is_timed else ""
    mean = f" in {record.time:.3f} s, test {record.evaluation_seconds:.2f} s"
    console.print(
        f"{record.recipe}, {record.contestant}, seed {len(record.accuracies) - 1}: "
        f"{record.accuracies[-1]:.2f} %{last}; mean {record.accuracy:.3f} % "
        f"({record.spread:.3f}){mean if record.seconds else ''}",
        soft_wrap=True,
    )


def key(record: Record) -> tuple[str, str]:
    """What a record is of: there is one for each in a file."""
    return record.recipe, record.contestant
