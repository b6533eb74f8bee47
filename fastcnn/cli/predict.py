"""``fastcnn predict``."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    images: Annotated[list[Path], typer.Argument(help="PNG or JPEG files.")],
    invert: Annotated[
        bool | None,
        typer.Option(help="Exchange black and white; by default if the border is bright."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    backend: Annotated[str | None, typer.Option(help="reference, im2col or lanes.")] = None,
) -> None:
    """Classify image files with a trained network.

    Example: fastcnn predict runs/20261123-120000-report digit.png
    """
    import numpy as np

    from fastcnn.data import read_image
    from fastcnn.training import Run

    opened = Run.open(run)
    model = opened.load_model()
    assert model.input_shape is not None
    pixels = np.stack([read_image(path, model.input_shape, invert=invert) for path in images])
    probabilities = model.predict_proba(pixels, backend=backend)
    if as_json:
        for path, row in zip(images, probabilities, strict=True):
            shares = dict(zip(opened.classes, map(float, row), strict=True))
            best = opened.classes[int(row.argmax())]
            typer.echo(json.dumps({"image": str(path), "class": best, "probabilities": shares}))
        return
    table = Table("image", "class", *opened.classes)
    for path, row in zip(images, probabilities, strict=True):
        best = opened.classes[int(row.argmax())]
        table.add_row(str(path), best, *(f"{100 * share:.1f} %" for share in row))
    Console(highlight=False).print(table)
