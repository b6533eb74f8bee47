"""``fastcnn predict``."""

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import numpy as np

    from fastcnn.data.images import Picture


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of the run.")],
    images: Annotated[list[Path], typer.Argument(help="PNG, JPEG, WebP, GIF, BMP or TIFF files.")],
    invert: Annotated[
        bool | None,
        typer.Option(help="Exchange black and white, or do not; by default as in training."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for each image.")
    ] = False,
    backend: Annotated[
        str | None, typer.Option(help="reference, im2col or lanes (the default).")
    ] = None,
) -> None:
    """Classify image files with a trained network, or predict values for them.

    Pictures are converted as in training (size, colour, scale); the output says how.

    Example: fastcnn predict runs/20261123-120000-report digit.png
    """
    import numpy as np

    from fastcnn.data import read_picture
    from fastcnn.errors import ConfigurationError
    from fastcnn.functional import sigmoid, softmax
    from fastcnn.training import Run

    opened = Run.open(run)
    model = opened.load_model()
    rule = opened.normalisation.rule_for_pictures(model.input_shape)
    shape = model.graph().output_shape
    if len(shape) != 1:
        raise ConfigurationError(f"{run}: the network gives arrays of shape {shape}: use Python")
    read = [read_picture(path, rule, invert=invert) for path in images]
    pixels = np.stack([picture.pixels for picture in read])
    outputs = model.logits(pixels, backend=backend)
    if not model.predicts_classes:
        if model.predicts in ("label", "labels"):
            outputs = sigmoid(outputs)
        names, answers, cells = _values(outputs)
    else:
        names, answers, cells = _classes(softmax(outputs), opened.classes)
    if as_json:
        for path, answer, picture in zip(images, answers, read, strict=True):
            typer.echo(json.dumps({"image": str(path), **answer, "done": picture.done}))
        return
    table = Table("image", *map(escape, names))
    for path, row in zip(images, cells, strict=True):
        table.add_row(escape(str(path)), *map(escape, row))
    console = Console(highlight=False)
    console.print(table)
    _print_changes(console, images, read)


#: Titles of columns, what JSON says of each picture, and the cells of its line.
Shown = tuple[tuple[str, ...], list[dict[str, Any]], list[list[str]]]


def _values(outputs: "np.ndarray") -> Shown:
    count = outputs.shape[1]
    names = ("value",) if count == 1 else tuple(f"value {index}" for index in range(count))
    answers = [{"values": list(map(float, row))} for row in outputs]
    return names, answers, [[f"{value:.6g}" for value in row] for row in outputs]


def _classes(probabilities: "np.ndarray", classes: tuple[str, ...]) -> Shown:
    answers, cells = [], []
    for row in probabilities:
        best = classes[int(row.argmax())]
        shares = dict(zip(classes, map(float, row), strict=True))
        answers.append({"class": best, "probabilities": shares})
        cells.append([best, *(f"{100 * share:.1f} %" for share in row)])
    return ("class", *classes), answers, cells


def _print_changes(console: Console, images: list[Path], read: "list[Picture]") -> None:
    """Say what was done to the pictures, to those of the same treatment together."""
    treated: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path, picture in zip(images, read, strict=True):
        treated[picture.done].append(path)
    for done, paths in treated.items():
        names = str(paths[0]) if len(paths) == 1 else f"{len(paths)} pictures"
        if done:
            console.print(escape(f"{names}: {', '.join(done)}"), soft_wrap=True)
