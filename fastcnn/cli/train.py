"""``fastcnn train``."""

import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from fastcnn.cli.warmup import Kernels


class ModelName(StrEnum):
    """Networks that can be trained by name."""

    report = "report"
    lenet5 = "lenet5"
    vgg_small = "vgg_small"
    resnet8 = "resnet8"


class Activation(StrEnum):
    """What follows the fully connected layers of the report's network."""

    relu = "relu"
    sigmoid = "sigmoid"
    tanh = "tanh"


def train(
    model: Annotated[ModelName, typer.Option(help="Network to train.")] = ModelName.report,
    activation: Annotated[
        Activation, typer.Option(help="After the fully connected layers of the report's network.")
    ] = Activation.relu,
    data: Annotated[
        str | None,
        typer.Option(
            help="mnist, mnist012, fashion_mnist, cifar10, digits, digits012, an .npz file, or a "
            "folder of class subfolders. By default mnist012, or drawn digits where MNIST cannot "
            "be had."
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
    optimizer: Annotated[str, typer.Option(help="sgd, adam, adamw or rmsprop.")] = "sgd",
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate; by default 0.02 for sgd, 0.001 for the others."),
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
    ema_decay: Annotated[
        float | None, typer.Option(help="Keep the weights' moving average, of this decay a step.")
    ] = None,
    early_stopping: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Stop when the test loss has not improved for so many epochs; keep the best.",
        ),
    ] = None,
    reduce_on_plateau: Annotated[
        int | None,
        typer.Option(
            min=0, help="Divide the learning rate by 10 after so many epochs without improvement."
        ),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option(help="Write TensorBoard events into the run's folder.")
    ] = False,
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

      fastcnn train --model lenet5 --data mnist --schedule one-cycle --lr 0.05 --batch-size 128
    """
    from fastcnn.data import load, load_default
    from fastcnn.training import Callback, EarlyStopping, ReduceLROnPlateau, TensorBoard, fit
    from fastcnn.training.recipe import Recipe
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
    recipe = Recipe(
        model=model.value, activation=activation.value, optimizer=optimizer, lr=lr,
        momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, schedule=schedule,
        warmup_steps=warmup_steps, clip_norm=clip_norm, label_smoothing=label_smoothing,
        ema_decay=ema_decay, epochs=epochs, batch_size=batch_size, seed=seed,
    )  # fmt: skip
    network = recipe.make_model(len(training.classes))
    method, plan, loss = recipe.make_optimizer(), recipe.make_schedule(), recipe.make_loss()
    folder = out or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{model.value}"
    config = describe_fit(
        network, training, loss, method, plan,
        data_source=source, model_name=model.value,
        model_arguments=recipe.model_arguments(len(training.classes)),
        epochs=epochs, batch_size=batch_size, backend=backend, seed=seed, clip_norm=clip_norm,
        ema_decay=ema_decay, early_stopping=early_stopping, reduce_on_plateau=reduce_on_plateau,
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
    callbacks: list[Callback] = [run.recorder(), watcher]
    if tensorboard:
        callbacks.append(TensorBoard(folder))
    if reduce_on_plateau is not None:
        callbacks.append(ReduceLROnPlateau(patience=reduce_on_plateau))
    if early_stopping is not None:
        callbacks.append(EarlyStopping(patience=early_stopping))
    try:
        fit(
            network, training, test, epochs=epochs, batch_size=batch_size, optimizer=method,
            schedule=plan, backend=backend, loss=loss, seed=seed, threads=threads,
            clip_norm=clip_norm, ema_decay=ema_decay, callbacks=callbacks,
        )  # fmt: skip
    except KeyboardInterrupt:
        print(f"interrupted: weights and metrics so far are in {folder}", file=sys.stderr)
        raise SystemExit(130) from None
    console.print(f"run written to {escape(str(folder))} (curves.png shows it)", soft_wrap=True)
    console.print(f"next: fastcnn evaluate {escape(str(folder))}", soft_wrap=True)
