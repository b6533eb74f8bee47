"""Training by named recipes from several seeds: records of seconds and accuracies."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from fastcnn.backends.lanes import default_threads
from fastcnn.benchmark.environment import describe_environment
from fastcnn.data import Dataset
from fastcnn.errors import ConfigurationError, counted
from fastcnn.files import atomic_write
from fastcnn.recipes import NamedRecipe, Record, get, records
from fastcnn.recipes.records import FORMAT
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


@dataclass(frozen=True)
class Plan:
    """How recipes are measured.

    Attributes
    ----------
    seeds : int
        Number of seeds, from 0.
    threads : int, optional
        By default all cores.
    batch_size : int, optional
        Instead of the recipe's; the record has the batch size in its recipe's name.
    max_steps : int, optional
        Instead of the recipe's, with the corresponding number of epochs: a schedule by fractions of
        the training shrinks with it. The record has the steps in its recipe's name.
    data : str, optional
        Instead of the recipe's.
    more : bool
        Keep the recorded seeds, and train the missing ones.
    timed : bool
        Whether seconds are recorded; not on a busy machine.
    """

    seeds: int = 5
    threads: int | None = None
    batch_size: int | None = None
    max_steps: int | None = None
    data: str | None = None
    more: bool = False
    timed: bool = True
    note: str = ""
    command: str = ""


def measured(
    recipe: NamedRecipe,
    trainer: Trainer,
    seeds: Sequence[int],
    plan: Plan,
    *,
    data: str = "",
    before: Record | None = None,
) -> Iterator[Record]:
    """Train from each seed; yields a record after each, of all seeds so far including earlier ones.

    A training is timed as a whole, from the data in memory to the trained model: initial weights,
    checks, augmentation and steps. Compilation precedes it, and tests are timed separately. If
    untimed, its accuracy is added to the record, whose seconds, threads and machine are kept.
    """
    here, threads = machine(), plan.threads or default_threads()
    trainer.warm()
    accuracies = list(before.accuracies) if before else []
    seconds = list(before.seconds) if before else []
    tests: list[float] = []
    if before is not None and not plan.timed:
        here, threads = before.machine, before.threads
    for seed in seeds:
        began = time.perf_counter()
        trainer.train(seed)
        ended = time.perf_counter()
        accuracies.append(round(100 * trainer.test(), 4))
        if plan.timed:
            tests.append(time.perf_counter() - ended)
            seconds.append(round(ended - began, 4))
        yield Record(
            recipe.name,
            trainer.name,
            list(accuracies),
            list(seconds),
            round(median(tests), 4) if tests else before.evaluation_seconds if before else 0.0,
            threads,
            here,
            f"{datetime.now(UTC):%Y-%m-%d}",
            plan.command,
            data,
            plan.note,
        )


def measure(
    name: str,
    plan: Plan,
    trainers: Sequence[Callable[[NamedRecipe, Dataset, Dataset, int], Trainer]],
    path: Path | None,
    console: Any,
) -> None:
    """Train by a recipe; print the record after each seed, and save it if a path is given.

    Raises
    ------
    FastcnnError
        If there is no such recipe, its data are unavailable, or the recorded seeds are of another
        machine.
    """
    recipe = get(name)
    if plan.data is not None:
        recipe = recipe.changed({"data": plan.data})
    if plan.batch_size is not None:
        recipe = recipe.changed({"batch_size": plan.batch_size})
        recipe = replace(recipe, name=f"{recipe.name}, batch {plan.batch_size}")
    train, test = recipe.load_data()
    if plan.max_steps is not None:
        per_epoch = recipe.options.steps_per_epoch or -(-len(train) // recipe.options.batch_size)
        epochs, rest = divmod(plan.max_steps, per_epoch)
        changes = (
            {"epochs": epochs + 1, "max_steps": plan.max_steps} if rest else {"epochs": epochs}
        )
        recipe = replace(recipe.changed(changes), name=f"{recipe.name}, {plan.max_steps} steps")
    threads = plan.threads or default_threads()
    for make in trainers:
        trainer = make(recipe, train, test, threads)
        before = _on_record(recipe.name, trainer.name, path) if plan.more else None
        here = (machine(), threads)
        if before is not None and plan.timed and (before.machine, before.threads) != here:
            raise ConfigurationError(
                f"{recipe.name}: the recorded seeds are of {before.machine}, "
                f"{counted(before.threads, 'thread')}, and these would be of {here[0]}, "
                f"{counted(threads, 'thread')}"
            )
        found = measured(
            recipe,
            trainer,
            range(len(before.accuracies) if before else 0, plan.seeds),
            plan,
            data=train.name if plan.data else "",
            before=before,
        )
        for record in found:
            if path is not None:
                add_record(record, path)
            seconds = f" in {record.seconds[-1]:.2f} s" if plan.timed else ""
            mean = (
                f" in {record.time:.3f} s, test {record.evaluation_seconds:.2f} s"
                if record.seconds
                else ""
            )
            console.print(
                f"{recipe.name}, {record.contestant}, seed {len(record.accuracies) - 1}: "
                f"{record.accuracies[-1]:.2f} %{seconds}; mean "
                f"{record.accuracy:.3f} % ({record.spread:.3f}){mean}",
                soft_wrap=True,
            )


def machine() -> str:
    """The processor and its number of cores."""
    found = describe_environment()
    return f"{found['processor']}, {found['instruction set']}, {found['cores']} cores"


def add_record(record: Record, path: Path) -> None:
    """Write a record to a file, replacing that of the same recipe and contestant."""
    known = records(path) if path.exists() else []
    kept = [each for each in known if _key(each) != _key(record)]
    entries = [asdict(each) for each in sorted([*kept, record], key=_key)]
    content = {"format": FORMAT, "records": entries}
    atomic_write(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def _on_record(recipe: str, contestant: str, path: Path | None) -> Record | None:
    known = records(path) if path is not None and path.exists() else []
    return next((each for each in known if _key(each) == (recipe, contestant)), None)


def _key(record: Record) -> tuple[str, str]:
    return record.recipe, record.contestant
