"""``fastcnn train``."""

import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from fastcnn.cli.warmup import Kernels


class ModelName(StrEnum):
    """Networks that can be trained by name."""

    report = "report"
    lenet5 = "lenet5"
    vgg_small = "vgg_small"


class Activation(StrEnum):
    """What follows the fully connected layers of the report's network."""

    relu = "relu"
    sigmoid = "sigmoid"
    tanh = "tanh"


#: Learning rate by optimiser where none is given.
DEFAULT_LR = {"sgd": 0.02, "adam": 1e-3, "adamw": 1e-3}


def train(
    model: Annotated[ModelName, typer.Option(help="Network to train.")] = ModelName.report,
    activation: Annotated[
        Activation, typer.Option(help="After the fully connected layers of the report's network.")
    ] = Activation.relu,
    data: Annotated[
        str | None,
        typer.Option(
            help="mnist, mnist012, fashion_mnist, digits, digits012, an .npz file, or a folder of "
            "class subfolders. By default mnist012, or drawn digits where MNIST cannot be had."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the IDX files; by default FASTCNN_DATA_DIR."),
    ] = None,
    validation_split: Annotated[
        bool, typer.Option(help="Leave out MNIST's first 5,000 training images, as the report did.")
    ] = False,
    backend: Annotated[
        str | None, typer.Option(help="reference (slow loops), im2col, or lanes (the default).")
    ] = None,
    epochs: Annotated[int, typer.Option(min=0)] = 5,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    optimizer: Annotated[str, typer.Option(help="sgd, adam or adamw.")] = "sgd",
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate; by default 0.02 for sgd, 0.001 for adam and adamw."),
    ] = None,
    momentum: Annotated[float, typer.Option(help="Of sgd.")] = 0.9,
    nesterov: Annotated[bool, typer.Option(help="Nesterov's momentum, for sgd.")] = False,
    weight_decay: Annotated[
        float | None, typer.Option(help="By default 0, and 0.01 for adamw.")
    ] = None,
    schedule: Annotated[
        str, typer.Option(help="constant, step, cosine or one-cycle.")
    ] = "constant",
    warmup_steps: Annotated[int, typer.Option(min=0, help="Steps of linear warm-up.")] = 0,
    clip_norm: Annotated[float | None, typer.Option(help="Largest norm of a gradient.")] = None,
    label_smoothing: Annotated[float, typer.Option(help="Of the cross-entropy.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and dropout.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="By default all cores.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; by default runs/TIME-MODEL.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Use a folder that is not empty.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
) -> None:
    """Train a network and write its run: config, metrics, weights and curves.

    Examples:

      fastcnn train

      fastcnn train --activation sigmoid --epochs 10

      fastcnn train --model lenet5 --data mnist --schedule one-cycle --lr 0.1
    """
    from fastcnn.data import load, load_default
    from fastcnn.losses import CrossEntropyLoss
    from fastcnn.models import MODELS
    from fastcnn.optim import make_optimizer, make_schedule
    from fastcnn.training import fit
    from fastcnn.training.run import Run, describe_fit

    console = Console(quiet=quiet, highlight=False)
    kernels = Kernels(backend)
    if data is None and not validation_split:
        training, test, message = load_default(data_dir)
        source = "digits012" if message else "mnist012"
        if message:
            console.print(escape(message), style="yellow", soft_wrap=True)
    else:
        source = data or "mnist012"
        training, test = load(
            source, data_dir=data_dir, validation_split=validation_split, progress=not quiet
        )
    arguments: dict[str, Any] = {"num_classes": len(training.classes), "seed": seed}
    if model is ModelName.report:
        arguments["activation"] = activation.value
    network = MODELS[model.value](**arguments)
    choices: dict[str, Any] = {"lr": DEFAULT_LR.get(optimizer, 0.0) if lr is None else lr}
    if optimizer == "sgd":
        choices |= {"momentum": momentum, "nesterov": nesterov}
    if weight_decay is not None:
        choices["weight_decay"] = weight_decay
    method = make_optimizer(optimizer, **choices)
    plan = make_schedule(schedule, warmup_steps)
    loss = CrossEntropyLoss(label_smoothing)
    folder = out or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{model.value}"
    config = describe_fit(
        network, training, loss, method, plan,
        data_source=source, model_name=model.value, model_arguments=arguments,
        epochs=epochs, batch_size=batch_size, backend=backend, seed=seed, clip_norm=clip_norm,
    )  # fmt: skip
    run = Run.create(folder, config, overwrite=overwrite)
    console.print(
        f"{model.value}: {network.num_parameters:,} parameters, {training.name}: "
        f"{len(training):,} training and {len(test):,} test images of "
        f"{len(training.classes)} classes"
    )
    from fastcnn.cli.progress import PlainLines, ProgressBar

    kernels.wait(console)
    watcher = ProgressBar(console) if console.is_terminal else PlainLines(console)
    try:
        fit(
            network, training, test, epochs=epochs, batch_size=batch_size, optimizer=method,
            schedule=plan, backend=backend, loss=loss, seed=seed, threads=threads,
            clip_norm=clip_norm, callbacks=[run.recorder(), watcher],
        )  # fmt: skip
    except KeyboardInterrupt:
        print(f"interrupted: weights and metrics so far are in {folder}", file=sys.stderr)
        raise SystemExit(130) from None
    console.print(f"run written to {escape(str(folder))} (curves.png shows it)", soft_wrap=True)
    console.print(f"next: fastcnn evaluate {escape(str(folder))}", soft_wrap=True)
