"""``fastcnn export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastcnn.cli.arguments import RunFolder
from fastcnn.cli.screen import Screen

if TYPE_CHECKING:
    from fastcnn.data import Dataset
    from fastcnn.interop.c import CExport
    from fastcnn.layers import Model
    from fastcnn.training import Run

KINDS = (".onnx", ".safetensors", ".h", ".py", ".html")


def export(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write: .onnx, .safetensors, .h (C), .py or .html; by default RUN.onnx."
        ),
    ] = None,
    fold: Annotated[
        bool,
        typer.Option("--fold", help="Fold batch normalisation into the layers before it (ONNX)."),
    ] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Compute with 8-bit integers (C).")] = False,
    calibration: Annotated[
        int | None,
        typer.Option(
            min=1, help="Training images that calibrate the scales of --int8; by default 256."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Data set for --int8; by default the one the run was trained on."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the training data, for --int8.")
    ] = None,
) -> None:
    """Write a trained network for other tools: ONNX, PyTorch, C, plain numpy, or a page.

    .onnx: takes images of shape (batch, C, H, W) and returns logits. Divide bytes by 255 if the
    network was trained on bytes; normalisation is part of the file.

    .safetensors: weights with PyTorch's keys and layouts, for safetensors.torch.load_file and
    load_state_dict.

    .h: C99 without dependencies. NAME_predict takes a raw image, floats or bytes, and returns
    probabilities. With --int8 it uses integer arithmetic, at a quarter of the size; the accuracy
    before and after is printed.

    .py: Python that imports only numpy. predict(images) is the forward pass, one line per layer.

    .html: a page that works without a connection. Draw or drop a picture: the network runs in the
    browser and shows probabilities and feature maps.

    Examples:

      fastcnn export RUN --out net.onnx --fold

      fastcnn export RUN --out net.h --int8

      fastcnn export RUN --out digit.html
    """
    from fastcnn.errors import ConfigurationError
    from fastcnn.training.run import Run

    target = out or run.with_suffix(".onnx")
    if target.suffix not in KINDS:
        raise ConfigurationError(
            f"--out must end in {', '.join(KINDS[:-1])} or {KINDS[-1]}, got {str(target)!r}"
        )
    given = {"--int8": int8, "--calibration": calibration, "--data": data, "--data-dir": data_dir}
    for option, value in given.items():
        if value and (target.suffix != ".h" or not int8):
            needed = "--int8 and --out FILE.h" if option != "--int8" else "--out FILE.h"
            raise ConfigurationError(f"{option} has no effect without {needed}")
    if fold and target.suffix != ".onnx":
        raise ConfigurationError("--fold has no effect without --out FILE.onnx")
    saved = Run.open(run)
    model = saved.load_model()
    console = Screen()
    if target.suffix == ".h":
        count = (calibration or 256) if int8 else 0
        _export_c(console, saved, model, target, count, data, data_dir)
        return
    if target.suffix == ".py":
        from fastcnn.interop.numpy_source import export_numpy

        export_numpy(model, target, saved.classes or None)
        advice = "call predict(images)"
    elif target.suffix == ".html":
        from fastcnn.interop.html_page import export_html

        export_html(model, target, classes=saved.classes or None)
        advice = "open it in a browser"
    elif target.suffix == ".onnx":
        from fastcnn.interop import export_onnx

        export_onnx(model.fold_batch_norm() if fold else model, target)
        advice = _input(saved, target)
    else:
        from fastcnn.interop.torch_names import save_state

        save_state(model, target)
        advice = _input(saved, target)
    console.say(f"written: {target}; {advice}")


def _input(saved: "Run", target: Path) -> str:
    """The input that the exported network expects."""
    rule = saved.normalisation
    if target.suffix == ".safetensors":
        return f"the network takes {rule.describe()}"
    units = "floats (bytes divided by 255)" if rule.takes_bytes else "floats as in training"
    return f"it takes {units}" + ("" if rule.is_identity else " and normalises them itself")


def _export_c(
    console: Screen,
    saved: "Run",
    model: "Model",
    target: Path,
    calibration: int,
    data: str | None,
    data_dir: Path | None,
) -> None:
    from fastcnn.data import load
    from fastcnn.interop.c import export_c

    train, test = None, None
    if calibration and data is None:
        train, test = saved.load_data(data_dir)
    elif calibration:
        assert data is not None
        train, test = load(data, data_dir=data_dir, pictures=saved.normalisation.pictures)
    images = None if train is None else train.images[:calibration]
    made = export_c(model, target, classes=saved.classes or None, calibration=images)
    console.say(
        f"written: {target}; {made.flash:,} bytes of constants, {made.ram:,} bytes of "
        f"working memory; call {made.name}_predict"
    )
    if test is not None and model.predicts == "classes" and saved.classes:
        _compare(console, model, made, test.select_classes(saved.classes))


def _compare(console: Screen, model: "Model", made: "CExport", test: "Dataset") -> None:
    """Print the accuracy of the float network and of the integer code on the test images."""
    assert made.integers is not None
    before = float((model.predict(test.images) == test.labels).mean())
    outputs = made.integers.outputs(test.images)
    after = float((outputs.argmax(axis=1) == test.labels).mean())
    console.say(
        f"accuracy on {len(test):,} test images: {100 * before:.2f} % in single precision, "
        f"{100 * after:.2f} % in 8-bit integers"
    )
