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

    from fastcnn.data import read_picture
    from fastcnn.training import Run

    opened = Run.open(run)
    model = opened.load_model()
    rule = opened.normalisation.rule_for_pictures(model.input_shape)
    read = [read_picture(expanded(path), rule, invert=invert) for path in images]
    pixels = np.stack([picture.pixels for picture in read])
    if as_json:
        _print_json(images, read, probabilities, opened.classes)
        return
