"""``fastcnn explain``."""

from pathlib import Path
from typing import Annotated

import typer

from fastcnn.cli.arguments import Backend, Invert, Picture, RunFolder
from fastcnn.cli.screen import Screen


def explain(
    run: RunFolder,
    image: Annotated[Path, typer.Argument(metavar="PICTURE", help="Picture to explain.")],
    layer: Annotated[
        str | None, typer.Option(help="Layer for Grad-CAM; by default the last with feature maps.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--class", help="Class to explain; by default the most likely.")
    ] = None,
    out: Picture = Path("explanation.png"),
    invert: Invert = None,
    backend: Backend = None,
) -> None:
    """Show which parts of a picture a trained network's prediction depends on.

    The figure shows the input, saliency, Grad-CAM, occlusion, and the probabilities.

    Examples:

      fastcnn explain RUN digit.png

      fastcnn explain RUN digit.png --layer conv2 --class 7
    """
    from fastcnn.analysis.explanations import explain as explained_by
    from fastcnn.analysis.explanations import explanation_figure
    from fastcnn.data import read_picture
    from fastcnn.errors import ConfigurationError
    from fastcnn.training import Run
    from fastcnn.training.figure import figure_format, save_figure

    figure_format(out)
    opened = Run.open(run)
    model, classes = opened.load_model(), opened.classes
    if not model.predicts_classes or model.gives > 1:
        raise ConfigurationError(f"{run}: only networks trained on classes can be explained")
    if label is not None and label not in classes:
        raise ConfigurationError(f"--class must be one of {', '.join(classes)}, got {label}")
    rule = opened.normalisation.rule_for_pictures(model.input_shape)
    picture = read_picture(image, rule, invert=invert)
    index = None if label is None else classes.index(label)
    found = explained_by(model, picture.pixels, index, layer=layer, backend=backend)
    save_figure(explanation_figure(found, classes), out)
    console = Screen()
    order = (-found.probabilities).argsort(kind="stable")[:3]
    shares = ", ".join(f"{classes[i]} {100 * found.probabilities[i]:.1f} %" for i in order)
    console.say(f"{image}: {shares}")
    if picture.done:
        console.say(f"{image}: {', '.join(picture.done)}")
    console.say(f"picture: {out}, of the class {classes[found.label]}")
