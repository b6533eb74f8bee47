"""``fastcnn evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from fastcnn.data import Dataset
    from fastcnn.training import Run


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    data: Annotated[
        str | None, typer.Option(help="Data set; by default the one the run was trained on.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the IDX files; by default FASTCNN_DATA_DIR.")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="reference, im2col or lanes.")] = None,
) -> None:
    """Accuracy, precision and recall of each class, confusion matrix and worst mistakes.

    Uses the test images of the run's data set, and writes confusion.png and mistakes.png into the
    run's folder.

    Example: fastcnn evaluate runs/20261123-120000-report
    """
    from fastcnn.analysis.figures import confusion_figure, mistakes_figure
    from fastcnn.analysis.metrics import confusion_matrix, per_class
    from fastcnn.errors import ConfigurationError
    from fastcnn.functional import softmax
    from fastcnn.training import Run
    from fastcnn.training import evaluate as run_evaluation
    from fastcnn.training.curves import save_figure

    opened = Run.open(run)
    model = opened.load_model()
    if model.predicts in ("value", "values"):
        raise ConfigurationError(
            f"{run}: the network predicts values, not classes: measure it in Python, with "
            "fastcnn.training.evaluate"
        )
    console = Console(highlight=False)
    test = _test_data(opened, data, data_dir)
    changes = opened.changes(test) if data is None else None
    if test.classes != opened.classes:
        test = test.select_classes(opened.classes)
    loss, accuracy, logits = run_evaluation(model, test, loss=opened.loss, backend=backend)
    confusion = confusion_matrix(test.labels, logits.argmax(axis=1), len(test.classes))
    scores = per_class(confusion)
    console.print(
        f"{test.name}: {len(test):,} test images, accuracy {100 * accuracy:.2f} %, loss {loss:.4f}"
    )
    if changes is not None:
        console.print(escape(changes), style="yellow", soft_wrap=True)
    table = Table("class", "precision", "recall", "F1", "images")
    for index, label in enumerate(test.classes):
        values = (f"{100 * scores[key][index]:.2f} %" for key in ("precision", "recall", "f1"))
        table.add_row(escape(label), *values, str(confusion[index].sum()))
    console.print(table)
    matrix = Table("true \\ predicted", *map(escape, test.classes))
    for label, row in zip(test.classes, confusion, strict=True):
        matrix.add_row(escape(label), *map(str, row))
    console.print(matrix)
    save_figure(confusion_figure(confusion, test.classes), opened.folder / "confusion.png")
    save_figure(mistakes_figure(test, softmax(logits)), opened.folder / "mistakes.png")
    console.print(f"pictures: {run / 'confusion.png'}, {run / 'mistakes.png'}", soft_wrap=True)


def _test_data(run: "Run", data: str | None, data_dir: Path | None) -> "Dataset":
    """The test images that were asked for, or those of the run."""
    from fastcnn.data import load
    from fastcnn.data.loading import NAMES
    from fastcnn.errors import ConfigurationError
    from fastcnn.training.run import checksum

    described, pictures = run.config["data"], run.normalisation.pictures
    if data is not None:
        return load(data, data_dir=data_dir, pictures=pictures)[1]
    source, name = described.get("source"), described["name"]
    if source is None and name not in NAMES:
        raise ConfigurationError(
            f"{run.folder}: trained in Python on {name}, which cannot be loaded again: give the "
            "data with --data"
        )
    train, test = load(source or name, data_dir=data_dir, pictures=pictures)
    kept = described.get("test_checksum")
    same = checksum(test) == kept if kept is not None else checksum(train) == described["checksum"]
    if source is None and not same:
        raise ConfigurationError(
            f"{run.folder}: trained in Python on {name}, and the data set of that name has other "
            "images: give the data with --data"
        )
    return test
