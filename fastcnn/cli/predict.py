"""``fastcnn predict``."""

import csv
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from fastcnn.cli.screen import screen

if TYPE_CHECKING:
    import numpy as np

    from fastcnn.data.images import Picture


#: Probabilities that a line shows: those of ten classes do not fit a terminal.
LIKELIEST = 3
#: Values that fit a line.
VALUES = 4


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of the run.")],
    images: Annotated[
        list[Path],
        typer.Argument(help="PNG, JPEG, WebP, GIF, BMP or TIFF files, or folders of them."),
    ],
    invert: Annotated[
        bool | None,
        typer.Option(help="Exchange black and white, or do not; by default as in training."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help=f"Show the probabilities of all classes, not of the {LIKELIEST} likeliest.",
        ),
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print comma-separated values, a line for each image.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for each image.")
    ] = False,
    backend: Annotated[
        str | None, typer.Option(help="reference, im2col or lanes (the default).")
    ] = None,
) -> None:
    """Classify pictures with a trained network, or predict values for them.

    Pictures are converted as in training (size, colour, scale); the output says how. A
    folder's pictures are read with those of its subfolders.

    Examples:

      fastcnn predict RUN digit.png

      fastcnn predict RUN scans --csv > scans.csv
    """
    import numpy as np

    from fastcnn.data import read_picture
    from fastcnn.errors import ConfigurationError
    from fastcnn.functional import sigmoid, softmax
    from fastcnn.training import Run

    if as_csv + as_json + every > 1:
        raise ConfigurationError(
            "--csv, --json and --all exclude each other: the first two say all"
        )
    opened = Run.open(run)
    paths, passed = _pictures(images)
    model = opened.load_model()
    rule = opened.normalisation.rule_for_pictures(model.input_shape)
    shape = model.graph().output_shape
    if len(shape) != 1:
        raise ConfigurationError(f"{run}: the network gives arrays of shape {shape}: use Python")
    read = [read_picture(path, rule, invert=invert) for path in paths]
    outputs = model.logits(np.stack([picture.pixels for picture in read]), backend=backend)
    values = not model.predicts_classes
    if model.predicts in ("label", "labels"):
        outputs = sigmoid(outputs)
    names = _value_names(shape[0]) if values else opened.classes
    numbers = outputs if values else softmax(outputs)
    if as_json:
        for path, row, picture in zip(paths, numbers, read, strict=True):
            answer = {"values": row.tolist()} if values else _answer(row, names)
            typer.echo(json.dumps({"image": str(path), **answer, "done": picture.done}))
        return
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["image", *([] if values else ["class"]), *names])
        for path, row in zip(paths, numbers, strict=True):
            best = [] if values else [names[int(row.argmax())]]
            writer.writerow([path, *best, *(f"{value:.6g}" for value in row)])
        return
    console = screen()
    console.print((_values if values else _likeliest)(paths, numbers, names, every))
    if len(paths) > 1 and not values:
        counts = Counter(names[index] for index in numbers.argmax(axis=1).tolist())
        shares = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common())
        console.print(f"{len(paths):,} pictures: {shares}", soft_wrap=True)
    if passed:
        console.print(f"passed over: {passed}", style="yellow", soft_wrap=True)
    _print_changes(console, paths, read)


def _pictures(given: list[Path]) -> tuple[list[Path], str]:
    """The files that are given and those of folders, and what was passed over in these."""
    from fastcnn.data.folders import Found, describe_passed, pictures_in

    paths, folders = [], Found()
    for path in given:
        paths += pictures_in(path, folders) if path.is_dir() else [path]
    return paths, describe_passed([folders]) if folders.passed else ""


def _answer(row: "np.ndarray", classes: tuple[str, ...]) -> dict[str, Any]:
    shares = dict(zip(classes, map(float, row), strict=True))
    return {"class": classes[int(row.argmax())], "probabilities": shares}


def _value_names(count: int) -> tuple[str, ...]:
    return ("value",) if count == 1 else tuple(f"value {index}" for index in range(count))


def _values(paths: list[Path], numbers: "np.ndarray", names: tuple[str, ...], every: bool) -> Table:
    cells = [[f"{value:.6g}" for value in row] for row in numbers]
    if len(names) > VALUES:
        return _downwards(paths, [list(zip(names, row, strict=True)) for row in cells], "")
    table = Table(Column("image", overflow="fold"), *names)
    for path, row in zip(paths, cells, strict=True):
        table.add_row(str(path), *row)
    return table


def _likeliest(
    paths: list[Path], numbers: "np.ndarray", names: tuple[str, ...], every: bool
) -> Table:
    shown = len(names) if every else min(LIKELIEST, len(names))
    rows = [
        [(names[index], f"{100 * row[index]:.1f} %") for index in (-row).argsort(kind="stable")]
        for row in numbers
    ]
    if every:
        return _downwards(paths, rows, "class")
    titles = ("class", "second", "third")[:shown]
    table = Table(
        Column("image", overflow="fold"), *(Column(title, overflow="fold") for title in titles)
    )
    for path, row in zip(paths, rows, strict=True):
        cells = (f"{name}  {share}" for name, share in row[:shown])
        table.add_row(str(path), *cells)
    return table


def _downwards(paths: list[Path], rows: list[list[tuple[str, str]]], title: str) -> Table:
    """A line for each number: many of them do not fit the width of a terminal."""
    table = Table(
        Column("image", overflow="fold"),
        Column(title, overflow="fold"),
        Column("probability" if title else "", justify="right"),
    )
    for path, row in zip(paths, rows, strict=True):
        for index, (name, number) in enumerate(row):
            table.add_row("" if index else str(path), name, number)
        table.add_section()
    return table


def _print_changes(console: Console, images: list[Path], read: "list[Picture]") -> None:
    """Say what was done to the pictures, to those of the same treatment together."""
    treated: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path, picture in zip(images, read, strict=True):
        treated[picture.done].append(path)
    for done, paths in treated.items():
        names = str(paths[0]) if len(paths) == 1 else f"{len(paths)} pictures"
        if done:
            console.print(f"{names}: {', '.join(done)}", soft_wrap=True)
