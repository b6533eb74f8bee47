"""``fastcnn sweep``."""

import json
import time
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.table import Table

from fastcnn.cli.arguments import AnyData, DataDir, ImageSize, InGray
from fastcnn.cli.lines import complain
from fastcnn.cli.screen import Screen, number_columns
from fastcnn.cli.signals import interrupted_code
from fastcnn.cli.training_data import data_words, free_folder, load_training, train_words
from fastcnn.errors import ConfigurationError, counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastcnn.training.recipe import Recipe
    from fastcnn.training.sweeps import Trial


#: How the settings of trials are drawn.
Sampler = StrEnum("Sampler", "random tpe")
#: Trials shown in the live table, and its columns.
SHOWN, COLUMNS = 12, ("validation_accuracy", "validation_loss", "train_loss")


def sweep(
    parameters: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=VALUES...",
            help="NAME=VALUE,VALUE,... or, for random search, NAME=LOW..HIGH (log:LOW..HIGH for "
            "a logarithmic range). Names are the options of fastcnn train with underscores, such "
            "as lr, batch_size, weight_decay.",
        ),
    ],
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Number of random trials; by default the whole grid is run."),
    ] = None,
    data: AnyData = None,
    data_dir: DataDir = None,
    image_size: ImageSize = None,
    gray: InGray = None,
    sampler: Annotated[
        Sampler,
        typer.Option(
            help="How trials are drawn: random, or tpe, which learns from finished ones (extra "
            "optuna)."
        ),
    ] = Sampler.random,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Rank by validation_accuracy, validation_loss, train_accuracy, train_loss, or a "
            "metric of the validation samples such as f1 or top3; by default the accuracy, or the "
            "loss where targets are values."
        ),
    ] = None,
    validation: Annotated[
        float,
        typer.Option(
            help="Share of the training samples held out for the ranking, the same in all "
            "trials. The test images have no influence on it."
        ),
    ] = 0.1,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Trials at a time; by default one per core."),
    ] = None,
    backend: Annotated[str | None, typer.Option(help="As for fastcnn train.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random search.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; by default runs/TIME-sweep.")
    ] = None,
) -> None:
    """Train many networks, one per core, and rank them.

    Writes sweep.jsonl (one line per trial, with its epochs) and sweep.png. The exit status is 1 if
    a trial failed.

    Examples:

      fastcnn sweep lr=0.01,0.03,0.1 batch_size=32,64 epochs=3

      fastcnn sweep lr=log:1e-3..0.3 momentum=0.5..0.95 epochs=2 --trials 50

      fastcnn sweep lr=log:1e-3..0.3 epochs=2 --trials 30 --sampler tpe

      fastcnn sweep lr=0.01,0.03 sampling=shuffled,balanced --metric f1
    """
    from fastcnn.files import make_folder
    from fastcnn.training.recipe import Recipe
    from fastcnn.training.search import TreeParzen
    from fastcnn.training.sweeps import draw, grid, measuring
    from fastcnn.training.sweeps import sweep as run_sweep

    for option, given in (("--seed", seed != 0), ("--sampler", sampler is not Sampler.random)):
        if trials is None and given:
            raise ConfigurationError(
                f"{option} has no effect without --trials: all of the grid is run"
            )
    space = _space(parameters)
    measuring(Recipe(), metric or "loss")
    folder = out or free_folder("sweep")
    results_file = folder / "sweep.jsonl"
    if results_file.exists():
        raise ConfigurationError(f"{results_file} has the results of a sweep: choose another --out")
    settings: Any = None
    if trials is None:
        settings = grid(space)
    elif sampler is Sampler.random:
        settings = draw(space, trials, seed)
    console = Screen()
    o = SimpleNamespace(
        data=data, data_dir=data_dir, validation_split=False, image_size=image_size, gray=gray
    )
    training, _, _ = load_training(o, console)
    if training.files:
        console.say(
            "for pictures, options that are not given are chosen as by fastcnn train: the records "
            "of trials have them"
        )
    if metric is None:
        are_classes = training.labels.dtype.kind in "iu"
        metric = "validation_accuracy" if are_classes else "validation_loss"
    base, metric = measuring(Recipe(validation=validation), metric)
    if validation == 0 and training.validation is None and metric.startswith("validation"):
        raise ConfigurationError(
            f"--validation 0 holds out nothing to measure {metric} on: give a share, or --metric "
            "train_loss"
        )
    if settings is None:
        settings = TreeParzen(space, trials or 0, metric, seed)
    stream = run_sweep(training, settings, base=base, workers=workers, backend=backend, suit=True)
    ranks = Ranks(console, space, metric)
    make_folder(folder)
    code = ranks.collect(stream, len(settings), results_file)
    if ranks.trials:
        ranks.show()
        best = ranks.best(validation, backend)
        if best is not None:
            recipe, how = best
            words = f"{data_words(o)}{train_words(recipe, training)}"
            console.print(f"best{how}: fastcnn train {words}", soft_wrap=True)
        ranks.draw(folder / "sweep.png")
        console.say(f"results: {results_file}, {folder / 'sweep.png'}")
    if code:
        if not ranks.trials:
            results_file.unlink()  # the same command can be given again
        complain(
            f"interrupted: {len(ranks.trials)} of {counted(len(settings), 'trial')} have ended"
        )
        raise SystemExit(code)
    ranks.check()


class Ranks:
    """The trials that have ended, best first."""

    def __init__(self, console: Screen, space: dict[str, Any], metric: str) -> None:
        self.console, self.metric = console, metric
        self.varied = [
            name
            for name, values in space.items()
            if not isinstance(values, list) or len(values) > 1
        ]
        self.trials: list[Trial] = []
        self.seconds = 0.0

    @property
    def ranked(self) -> "list[Trial]":
        from fastcnn.training.sweeps import rank

        return rank(self.trials, self.metric)

    def collect(self, stream: "Iterator[Trial]", total: int, path: Path) -> int:
        """Write each trial to a file, and show it; returns the exit code of an interrupt, or 0."""
        began = time.perf_counter()
        code = 0
        with (
            path.open("x", encoding="utf-8") as file,
            Live(console=self.console, transient=True, auto_refresh=False) as live,
        ):
            try:
                for trial in stream:
                    self.trials.append(trial)
                    file.write(json.dumps({"kind": "trial", **asdict(trial)}) + "\n")
                    file.flush()
                    done = f"{len(self.trials)} of {counted(total, 'trial')}"
                    if self.console.is_terminal:
                        live.update(self._table(done), refresh=True)
                    else:
                        self.console.say(f"{done}: {describe(trial, self.metric)}")
            except KeyboardInterrupt as interrupt:
                stream.close()  # type: ignore[attr-defined]
                code = interrupted_code(interrupt)
        self.seconds = time.perf_counter() - began
        return code

    def show(self) -> None:
        """Print the table of the best trials."""
        count = len(self.trials)
        rate = 60 * count / self.seconds
        title = f"{counted(count, 'trial')} in {self.seconds:.1f} s, {rate:.0f} a minute"
        if count > SHOWN:
            title += f"; the best {SHOWN} of them"
        self.console.show(self._table(title))

    def _table(self, title: str) -> Table:
        """The best trials, with the metric used for ranking."""
        from fastcnn.training.history import cell

        columns = COLUMNS if self.metric in COLUMNS else (self.metric, *COLUMNS)
        titles = ("", *(name.replace("_", " ") for name in (*self.varied, *columns)), "seconds")
        table = Table(*number_columns(*titles), title=title, title_justify="left")
        for place, trial in enumerate(self.ranked[:SHOWN], start=1):
            numbers = [trial.status, *[""] * (len(columns) - 1)]
            if trial.kept is not None:
                numbers = [cell(trial.kept[name], name) for name in columns]
            settings = (_word(trial.settings[name]) for name in self.varied)
            table.add_row(str(place), *settings, *numbers, f"{trial.seconds:.2f}")
        return table

    def best(self, validation: float, backend: str | None) -> "tuple[Recipe, str] | None":
        """The recipe of the best settings, and how they were compared; None if all failed."""
        from fastcnn.training.recipe import Recipe
        from fastcnn.training.sweeps import best_settings
        from fastcnn.training.validation import SHARE

        best = best_settings(self.trials, self.metric)
        if not best or best[0].status != "finished":
            return None
        recipe = replace(best[0].recipe, seed=Recipe().seed)
        if backend is not None:
            recipe = replace(recipe, backend=backend)
        if recipe.monitors() and validation != SHARE:
            recipe = replace(recipe, validation=validation)
        return recipe, f" (by the mean of its {len(best)} seeds)" if len(best) > 1 else ""

    def draw(self, path: Path) -> None:
        """Draw the metric against each setting that varies."""
        from fastcnn.analysis.sweeps import sweep_figure
        from fastcnn.training.figure import save_figure

        save_figure(sweep_figure(self.ranked, self.varied, self.metric), path)

    def check(self) -> None:
        """Exit with 1 if a trial failed."""
        failed = [trial for trial in self.trials if trial.status == "failed"]
        if failed:
            complain(
                f"{len(failed)} of {counted(len(self.trials), 'trial')} failed; the first: "
                f"{describe(failed[0], self.metric)}"
            )
            raise SystemExit(1)


def _space(parameters: list[str]) -> dict[str, Any]:
    """The values or the range of each setting.

    Raises ConfigurationError if a setting is given twice, or one cannot be read.
    """
    space: dict[str, Any] = {}
    for text in parameters:
        name, values = parse_parameter(text)
        if name in space:
            raise ConfigurationError(f"{name} is given twice: write {name}=VALUE,VALUE")
        space[name] = values
    return space


def parse_parameter(text: str) -> tuple[str, Any]:
    """``lr=0.1,0.2`` or ``lr=log:0.001..0.1`` as a name and its values or range.

    Raises ConfigurationError if it is neither.
    """
    from fastcnn.optim.groups import value_of
    from fastcnn.training.search import Span

    name, sign, values = text.partition("=")
    name = name.strip().replace("-", "_")
    if not sign or not name or not values:
        raise ConfigurationError(f"{text!r}: write NAME=VALUE,VALUE or NAME=LOW..HIGH")
    if ".." not in values:
        return name, [value_of(part) for part in values.split(",") if part]
    low, high = (value_of(part) for part in values.removeprefix("log:").split("..", 1))
    if isinstance(low, str) or isinstance(high, str):
        raise ConfigurationError(f"{text!r}: a range needs two numbers")
    whole = isinstance(low, int) and isinstance(high, int)
    return name, Span(low, high, log=values.startswith("log:"), whole=whole)


def describe(trial: "Trial", metric: str) -> str:
    """One line about a trial."""
    chosen = " ".join(f"{key}={_word(value)}" for key, value in trial.settings.items())
    if trial.kept is None:
        return f"{chosen}  {trial.status}: {trial.error}"
    value = trial.kept[metric]
    shown = "none" if value is None else f"{value:.4f}"
    return f"{chosen}  {metric} {shown}  {trial.seconds:.2f} s"


def _word(value: Any) -> str:
    """A setting as it is written on the command line."""
    return "none" if value is None else str(value)
