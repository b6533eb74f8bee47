"""``fastcnn predict``."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    images: Annotated[list[Path], typer.Argument(help="PNG, JPEG, WebP, GIF, BMP or TIFF files.")],
    invert: Annotated[
        bool | None,
        typer.Option(
            help="Exchange black and white, or never do; by default as the run recorded it."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    backend: Annotated[str | None, typer.Option(help="reference, im2col or lanes.")] = None,
) -> None:
    """Classify image files with a trained network.

    Pictures are read as those of the training were; the output says what was done to them.

    Example: fastcnn predict runs/20261123-120000-report digit.png
    """
    import numpy as np

    from fastcnn.data import read_picture
    from fastcnn.training import Run

    opened = Run.open(run)
    model = opened.load_model()
    rule = opened.normalisation.rule_for_pictures(model.input_shape)
    read = [read_picture(path, rule, invert=invert) for path in images]
    pixels = np.stack([picture.pixels for picture in read])
    probabilities = model.predict_proba(pixels, backend=backend)
    if as_json:
        for path, picture, row in zip(images, read, probabilities, strict=True):
            shares = dict(zip(opened.classes, map(float, row), strict=True))
            best = opened.classes[int(row.argmax())]
            answer = {"image": str(path), "class": best, "probabilities": shares}
            typer.echo(json.dumps({**answer, "done": picture.done}))
        return
    table = Table("image", "class", *map(escape, opened.classes))
    for path, row in zip(images, probabilities, strict=True):
        best = opened.classes[int(row.argmax())]
        percent = (f"{100 * share:.1f} %" for share in row)
        table.add_row(escape(str(path)), escape(best), *percent)
    console = Console(highlight=False)
    console.print(table)
    treated: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path, picture in zip(images, read, strict=True):
        treated[picture.done].append(path)
    for done, paths in treated.items():
        names = str(paths[0]) if len(paths) == 1 else f"{len(paths)} pictures"
        if done:
            console.print(escape(f"{names}: {', '.join(done)}"), soft_wrap=True)
