"""``fastcnn train``."""

import sys
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from fastcnn.cli.ranks import one_voice

if TYPE_CHECKING:
    from fastcnn.data.dataset import Dataset
    from fastcnn.distributed import World
    from fastcnn.layers import Model
    from fastcnn.training.run import Run

#: The source of an option that was given, as click calls it.
TYPED = "COMMANDLINE"
#: Options that do not belong to a run.
UNSAVED = ("resume", "quiet", "out", "overwrite", "threads", "diagnose")


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
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(help=f"{', '.join(ModelName)}, or a TOML or JSON file that describes one."),
    ] = "report",
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
    augment: Annotated[
        str | None,
        typer.Option(
            help="Change training images at random: digits, pictures, or settings such as "
            "shift=2,rotation=10,scale=0.1,elastic=1,flip,crop=4,cutout=8,mixup=0.2."
        ),
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
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with this run's folder from its last checkpoint, with the options that it "
            "was started with; only --epochs and --threads may be given beside."
        ),
    ] = None,
    average_every: Annotated[
        int,
        typer.Option(
            min=1,
            help="On several MPI processes: average the weights after so many steps of each, "
            "instead of the gradients after every step.",
        ),
    ] = 1,
    ordered_reduction: Annotated[
        bool,
        typer.Option(help="The same bits on any number of MPI processes, one included; slower."),
    ] = False,
    diagnose: Annotated[
        bool, typer.Option(help="Say what ails the run, such as dead units or overfitting.")
    ] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
) -> None:
    """Train a network and write its run: config, metrics, weights, checkpoints and curves.

    Ctrl-C, or a signal to terminate, leaves a run that --resume continues as if it had not been
    stopped.

    Examples:

      fastcnn train

      fastcnn train --activation sigmoid --epochs 10

      fastcnn train --model lenet5 --data mnist --schedule one-cycle --lr 0.05 --batch-size 128

      fastcnn train --model net.toml --data digits

      fastcnn train --resume runs/20260101-120000-report

      mpiexec -n 4 python -m mpi4py -m fastcnn train
    """
    from fastcnn.distributed import join

    options = {name: _plain(value) for name, value in context.params.items()}
    world = join()
    with one_voice(world), world.guard():
        run = None
        with world.preparing():
            if resume is not None and world.is_root:
                run, options = _resumed(context, resume, options)
        _train(SimpleNamespace(**world.from_root(options)), run, world)


def _plain(value: Any) -> Any:
    """An option's value as JSON knows it."""
    return str(value) if isinstance(value, (StrEnum, Path)) else value


def _resumed(
    context: typer.Context, folder: Path, given: dict[str, Any]
) -> "tuple[Run, dict[str, Any]]":
    """A run to go on with, and the options that it was started with."""
    from fastcnn.errors import CheckpointError, ConfigurationError
    from fastcnn.training.run import Run

    run = Run.open(folder)
    saved = run.config.get("options")
    if not isinstance(saved, dict):
        raise CheckpointError(f"{folder} was not started by fastcnn train: resume it from Python")
    chosen = {
        name
        for name in given
        if name != "resume" and getattr(context.get_parameter_source(name), "name", "") == TYPED
    }
    fixed = sorted(chosen - {"epochs", "threads", "quiet", "diagnose"})
    if fixed:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in fixed)
        raise ConfigurationError(f"{names}: a resumed run keeps the options it was started with")
    options = given | saved | {name: given[name] for name in chosen | {"quiet"}}
    if run.config.get("status") == "finished" and options["epochs"] <= saved["epochs"]:
        raise ConfigurationError(
            f"{folder} finished its {saved['epochs']} epochs: give more with --epochs"
        )
    return run, options


def _train(o: SimpleNamespace, resumed: "Run | None", world: "World") -> None:
    """Train as the options say, on the processes of ``world``; goes on with ``resumed``."""
    from fastcnn.distributed.agreement import check_agreement
    from fastcnn.layers.definition import from_definition
    from fastcnn.training import Callback, EarlyStopping, ReduceLROnPlateau, TensorBoard, fit
    from fastcnn.training.fit import agreed_parts
    from fastcnn.training.interrupts import Terminated
    from fastcnn.training.recipe import Recipe
    from fastcnn.training.run import Run, describe_fit

    console = Console(quiet=o.quiet or not world.is_root, highlight=False)
    saved = None if resumed is None else resumed.config["model"].get("definition")
    definition, name = world.from_root(saved), Path(o.model).stem
    with world.preparing():
        training, test, source = _load(o, console)
        recipe = Recipe(
            model=o.model, activation=o.activation, optimizer=o.optimizer, lr=o.lr,
            momentum=o.momentum, nesterov=o.nesterov, weight_decay=o.weight_decay,
            schedule=o.schedule, warmup_steps=o.warmup_steps, clip_norm=o.clip_norm,
            label_smoothing=o.label_smoothing, ema_decay=o.ema_decay, augment=o.augment,
            epochs=o.epochs, batch_size=o.batch_size, seed=o.seed,
        )  # fmt: skip
        if definition is not None and recipe.is_file:
            network: Model = from_definition(definition, o.seed)
        else:
            network = recipe.make_model(len(training.classes))
        method, plan, loss = recipe.make_optimizer(), recipe.make_schedule(), recipe.make_loss()
        augment = recipe.make_augment()
        config = describe_fit(
            network, training, loss, method, plan, test=test,
            data_source=source, model_name=None if recipe.is_file else o.model,
            model_arguments={} if recipe.is_file else recipe.model_arguments(len(training.classes)),
            epochs=o.epochs, batch_size=o.batch_size, backend=o.backend, seed=o.seed,
            clip_norm=o.clip_norm, ema_decay=o.ema_decay,
            augment=None if augment is None else asdict(augment),
            early_stopping=o.early_stopping, reduce_on_plateau=o.reduce_on_plateau,
            average_every=o.average_every, ordered_reduction=o.ordered_reduction,
        )  # fmt: skip
    if world.size > 1:
        check_agreement(world, **agreed_parts(config, training, test))
    run = resumed
    with world.preparing():
        if run is not None:
            run.config["options"]["epochs"] = o.epochs
        elif world.is_root:
            config["options"] = {key: value for key, value in vars(o).items() if key not in UNSAVED}
            folder = Path(o.out or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}")
            run = Run.create(folder, config, overwrite=o.overwrite)
    together = f", on {world.size} MPI processes" if world.size > 1 else ""
    console.print(
        f"{name}: {network.num_parameters:,} parameters, {training.name}: "
        f"{len(training):,} training and {len(test):,} test images of "
        f"{len(training.classes)} classes{together}",
        soft_wrap=True,
    )
    if run is not None and world.size > 1:
        # The launcher, who has the last word where a process dies, does not know this.
        console.print(
            f"if the job is cut short: fastcnn train --resume {escape(str(run.folder))}, on any "
            "number of processes", soft_wrap=True,
        )  # fmt: skip
    from fastcnn.cli.progress import PlainLines, ProgressBar

    callbacks: list[Callback] = []
    if run is not None:
        callbacks.append(ProgressBar(console) if console.is_terminal else PlainLines(console))
        if o.tensorboard:
            callbacks.append(TensorBoard(run.folder))
    if o.reduce_on_plateau is not None:
        callbacks.append(ReduceLROnPlateau(patience=o.reduce_on_plateau))
    if o.early_stopping is not None:
        callbacks.append(EarlyStopping(patience=o.early_stopping))
    try:
        fit(
            network, training, test, epochs=o.epochs, batch_size=o.batch_size, optimizer=method,
            schedule=plan, backend=o.backend, loss=loss, seed=o.seed, threads=o.threads,
            clip_norm=o.clip_norm, ema_decay=o.ema_decay, augment=augment, callbacks=callbacks,
            out=run, resume=o.resume is not None, world=world, average_every=o.average_every,
            ordered_reduction=o.ordered_reduction, diagnose=o.diagnose,
        )  # fmt: skip
    except KeyboardInterrupt as interrupt:
        if run is not None:
            print(
                f"interrupted: weights and metrics so far are in {run.folder}; "
                f"fastcnn train --resume {run.folder} goes on", file=sys.stderr, flush=True,
            )  # fmt: skip
        world.known_error = SystemExit(143 if isinstance(interrupt, Terminated) else 130)
        raise world.known_error from None
    if run is not None:
        where = escape(str(run.folder))
        console.print(f"run written to {where} (curves.png shows it)", soft_wrap=True)
        console.print(f"next: fastcnn evaluate {where}", soft_wrap=True)


def _load(o: SimpleNamespace, console: Console) -> "tuple[Dataset, Dataset, str]":
    """Training data, test data, and the name under which they are loaded again."""
    from fastcnn.data import load, load_default

    if o.data is None and not o.validation_split:
        training, test, message = load_default(o.data_dir)
        if message:
            console.print(escape(message), style="yellow", soft_wrap=True)
        return training, test, "digits012" if message else "mnist012"
    source = o.data or "mnist012"
    progress = not console.quiet
    training, test = load(
        source, data_dir=o.data_dir, validation_split=o.validation_split, progress=progress
    )
    return training, test, source
