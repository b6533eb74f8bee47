"""Comparison of finished runs: differences in settings, and their results."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcnn.errors import CheckpointError, ConfigurationError, cause
from fastcnn.files import expanded
from fastcnn.text_table import text_table
from fastcnn.training.figure import literal, new_figure
from fastcnn.training.history import LOSS_UNITS, cell
from fastcnn.training.run import Run

#: Parts of a run's config that can explain a result.
SECTIONS = ("model", "data", "loss", "optimizer", "schedule", "training")
#: Parts that follow from other settings; so do layers, if a network has a name.
DERIVED = {"model.definition", "model.input_shape", "model.output_shape", "data.classes"}
# The Okabe-Ito palette, which is safe for colour-blind readers; then repeated with dashes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class RunRow:
    """One run of a comparison.

    Attributes
    ----------
    name : str
        The folder's name, with enough of its path to be unique.
    settings : dict of str to str
        The settings that differ between the runs.
    epochs : list of dict
        The records of its epochs.
    loss : str
        The operation of its loss.
    """

    name: str
    settings: dict[str, str]
    epochs: list[dict[str, Any]]
    loss: str = "cross_entropy"

    def last(self, metric: str) -> float | None:
        """A metric after the last epoch."""
        return self.epochs[-1].get(metric) if self.epochs else None

    def best(self, metric: str) -> float | None:
        """The best value of a metric: the largest accuracy, or the smallest loss."""
        values = [e[metric] for e in self.epochs if e.get(metric) is not None]
        if not values:
            return None
        return max(values) if metric.endswith("accuracy") else min(values)

    @property
    def seconds(self) -> float:
        """Seconds of training."""
        return float(sum(epoch["seconds"] for epoch in self.epochs))


@dataclass(frozen=True)
class RunComparison:
    """Results of :func:`compare_runs`.

    Attributes
    ----------
    rows : list of RunRow
        In the given order.
    """

    rows: list[RunRow]

    @property
    def header(self) -> list[str]:
        """Titles of the columns of :attr:`cells`."""
        accuracy = ["test accuracy", "best"] if self.has_accuracy else ["best"]
        return ["run", "epochs", "train loss", "test loss", *accuracy, "seconds"]

    @property
    def has_accuracy(self) -> bool:
        """Whether any run has an accuracy, that is, was trained on classes."""
        return any(row.last("train_accuracy") is not None for row in self.rows)

    @property
    def cells(self) -> list[list[str]]:
        """One line of text per run."""
        accuracy = ("test_accuracy",) if self.has_accuracy else ()
        best = "test_accuracy" if self.has_accuracy else "test_loss"
        return [
            [
                row.name,
                str(len(row.epochs)),
                *(cell(row.last(name), name) for name in ("train_loss", "test_loss", *accuracy)),
                cell(row.best(best), best),
                f"{row.seconds:.2f}",
            ]
            for row in self.rows
        ]

    @property
    def differences(self) -> list[str]:
        """One line per run: the settings that differ from other runs."""
        return [f"{row.name}: {_described(row.settings) or 'nothing'}" for row in self.rows]

    def table(self) -> str:
        """The comparison as plain text."""
        return "\n".join([text_table(self.header, self.cells), "", *self.differences])

    def figure(self) -> Any:
        """Training loss, test loss and test accuracy by epoch, one line per run."""
        figure = new_figure(11.0, 3.8 + 0.2 * len(self.rows))
        losses = {row.loss for row in self.rows}
        unit = LOSS_UNITS.get(self.rows[0].loss, "loss") if len(losses) == 1 else "loss"
        titles = [("train_loss", "Training loss", unit, 1.0), ("test_loss", "Test loss", unit, 1.0)]
        if self.has_accuracy:
            titles.append(("test_accuracy", "Test accuracy", "accuracy (%)", 100.0))
        panels = figure.subplots(1, len(titles))
        for axes, (metric, title, unit, scale) in zip(panels, titles, strict=True):
            for index, row in enumerate(self.rows):
                points = [
                    (e["epoch"], scale * e[metric]) for e in row.epochs if e.get(metric) is not None
                ]
                axes.plot(
                    [x for x, _ in points],
                    [y for _, y in points],
                    label=literal(row.name),
                    color=COLOURS[index % len(COLOURS)],
                    linestyle=LINES[index // len(COLOURS) % len(LINES)],
                    marker="o",
                    markersize=3,
                    linewidth=1.3,
                )
            axes.set_title(title, loc="left", fontsize=11)
            axes.set_xlabel("epoch")
            axes.set_ylabel(unit)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            frameon=False,
            ncols=1 if max(map(len, labels)) > 40 else 3,
        )
        return figure


def compare_runs(folders: Sequence[str | Path]) -> RunComparison:
    """Read runs and find the settings in which they differ.

    Parameters
    ----------
    folders : sequence of path
        Two or more folders of training runs; they may be unfinished.

    Raises
    ------
    CheckpointError
        If a folder holds no run, or its metrics cannot be read.
    ConfigurationError
        If there are fewer than two, or one is given twice.
    """
    paths = [expanded(folder) for folder in folders]
    if len(paths) < 2 or len({path.resolve() for path in paths}) < len(paths):
        raise ConfigurationError("a comparison needs two or more different runs")
    runs = [Run.open(path) for path in paths]
    settings = [_flat(run.config) for run in runs]
    keys = [
        key
        for key in dict.fromkeys(key for one in settings for key in one)
        if len({one.get(key, "") for one in settings}) > 1
    ]
    rows = []
    for name, run, own in zip(_names(paths), runs, settings, strict=True):
        try:
            epochs = run.metrics("epoch")
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = cause(error)
            raise CheckpointError(f"{run.folder}: its metrics cannot be read ({reason})") from None
        loss = str(run.config["loss"].get("name", ""))
        rows.append(RunRow(name, {key: own.get(key, "") for key in keys}, epochs, loss))
    return RunComparison(rows)


def _flat(config: dict[str, Any]) -> dict[str, str]:
    """The settings of a config by dotted names, as text."""
    settings: dict[str, str] = {}
    derived = DERIVED | ({"model.layers"} if config.get("model", {}).get("name") else set())

    def add(prefix: str, value: Any) -> None:
        if prefix in derived:
            return
        if isinstance(value, dict):
            for key, item in value.items():
                add(f"{prefix}.{key}", item)
        else:
            settings[prefix] = "" if value is None else str(value)

    for section in SECTIONS:
        add(section, config.get(section, {}))
    # For a named model, the seed of the run is also that of its weights.
    if settings.get("model.arguments.seed") == settings.get("training.seed"):
        settings.pop("model.arguments.seed", None)
    return settings


def _names(paths: list[Path]) -> list[str]:
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _described(settings: dict[str, str]) -> str:
    """A run's settings, by the last part of their names if unambiguous."""
    last = [key.split(".")[-1] for key in settings]
    names = [
        key.removesuffix(".name") if short == "name" else key if last.count(short) > 1 else short
        for key, short in zip(settings, last, strict=True)
    ]
    pairs = zip(names, settings.values(), strict=True)
    return ", ".join(f"{name}={value}" for name, value in pairs if value)
