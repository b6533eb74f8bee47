"""``fastcnn evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fastcnn.cli.arguments import Backend, DataDir, RunFolder
from fastcnn.cli.screen import Screen, number_columns

if TYPE_CHECKING:
    import numpy as np

    from fastcnn.data import Dataset

#: Kinds of mistakes listed.
MISTAKES = 15


def evaluate(
    run: RunFolder,
    data: Annotated[
        str | None, typer.Option(help="Data set; by default the one the run was trained on.")
    ] = None,
    data_dir: DataDir = None,
    tta: Annotated[
        str | None,
        typer.Option(
            help="Test-time augmentation: flip (mean over mirror images), five-view (moved by a "
            "pixel) or six-view (both)."
        ),
    ] = None,
    backend: Backend = None,
) -> None:
    """Test a trained network: accuracy, precision and recall of each class, worst mistakes.

    Uses the test images of the run's data set, and writes confusion.png and mistakes.png into the
    run's folder; with --data NAME they are confusion-NAME.png and mistakes-NAME.png.

    Example: fastcnn evaluate RUN
    """
    from fastcnn.analysis.figures import confusion_figure, mistakes_figure
    from fastcnn.analysis.metrics import confusion_matrix, per_class
    from fastcnn.data import load
    from fastcnn.errors import ConfigurationError, counted
    from fastcnn.functional import softmax
    from fastcnn.training import Run
    from fastcnn.training import evaluate as run_evaluation
    from fastcnn.training.figure import save_figure

    opened = Run.open(run)
    model = opened.load_model()
    shape = model.graph().output_shape
    reason = (
        f"predicts {model.predicts}, not classes"
        if not model.predicts_classes
        else f"has {model.gives} outputs"
        if model.gives > 1
        else f"outputs arrays of shape {shape}"
        if len(shape) != 1
        else None
    )
    if reason is not None:
        raise ConfigurationError(
            f"{run}: the network {reason}: evaluate it in Python, with fastcnn.training.evaluate"
        )
    console = Screen()
    if data is None:
        _, test = opened.load_data(data_dir)
        changes = opened.changes(test)
    else:
        _, test = load(data, data_dir=data_dir, pictures=opened.normalisation.pictures)
        changes = None
    if test.classes != opened.classes:
        test = _known_classes(test, opened.classes, run, console)
    loss, accuracy, logits = run_evaluation(model, test, loss=opened.loss, backend=backend, tta=tta)
    confusion = confusion_matrix(test.labels, logits.argmax(axis=1), len(test.classes))
    scores = per_class(confusion)
    console.say(
        f"{test.name}: {counted(len(test), 'test image')}, accuracy {100 * accuracy:.2f} %, loss "
        f"{loss:.4f}"
    )
    if changes is not None:
        console.say(changes, style="yellow")
    table = Table("class", *number_columns("precision", "recall", "F1", "images"))
    for index, label in enumerate(test.classes):
        values = (f"{100 * scores[key][index]:.2f} %" for key in ("precision", "recall", "f1"))
        table.add_row(label, *values, str(confusion[index].sum()))
    console.show(table)
    matrix = Table("true \\ predicted", *number_columns(*test.classes))
    for label, row in zip(test.classes, confusion, strict=True):
        matrix.add_row(label, *map(str, row))
    console.show(matrix if console.fits(matrix) else _mistakes(confusion, test.classes))
    # Pictures of another data set do not replace those of the run's own.
    of_data = "" if data is None else f"-{Path(data).resolve().stem}"
    pictures = [run / f"{name}{of_data}.png" for name in ("confusion", "mistakes")]
    save_figure(confusion_figure(confusion, test.classes), pictures[0])
    save_figure(mistakes_figure(test, softmax(logits)), pictures[1])
    console.say(f"pictures: {', '.join(map(str, pictures))}")


def _mistakes(confusion: "np.ndarray", classes: tuple[str, ...]) -> Table:
    """The most frequent mistakes: all pairs of many classes are too wide for a screen."""
    wrong = [
        (confusion[true, predicted], classes[true], classes[predicted])
        for true, predicted in zip(*confusion.nonzero(), strict=True)
        if true != predicted
    ]
    wrong.sort(key=lambda entry: -entry[0])
    table = Table("true", "predicted", *number_columns("images"))
    for count, true, predicted in wrong[:MISTAKES]:
        table.add_row(true, predicted, str(count))
    if len(wrong) > MISTAKES:
        rest = sum(count for count, _, _ in wrong[MISTAKES:])
        table.add_row("other", f"{len(wrong) - MISTAKES:,} pairs", str(rest))
    return table


def _known_classes(
    test: "Dataset", classes: tuple[str, ...], run: Path, console: Screen
) -> "Dataset":
    """The images of the classes that a network knows; reports the classes left out.

    Raises DataError if one of its classes is missing.
    """
    from fastcnn.errors import DataError

    if missing := [name for name in classes if name not in test.classes]:
        raise DataError(
            f"{test.name}: its classes are {', '.join(test.classes)}; the network of {run} has the "
            f"classes {', '.join(classes)}: {', '.join(missing)} missing"
        )
    others = [name for name in test.classes if name not in classes]
    if others:
        text = f"{test.name}: images of other classes are left out: {', '.join(others)}"
        console.say(text, style="yellow")
    return test.select_classes(classes)
