"""``fastcnn train``."""

import shlex
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastcnn.cli.arguments import ImageSize, InGray
from fastcnn.cli.declared import as_words, with_options
from fastcnn.cli.lines import complain, one_voice
from fastcnn.cli.screen import Screen
from fastcnn.cli.signals import interrupted_code
from fastcnn.cli.training_data import free_folder, load_training, typed
from fastcnn.errors import CheckpointError, ConfigurationError, NonFiniteError, counted
from fastcnn.training.callbacks import Callback, TrainingStart
from fastcnn.training.recipe import Recipe, suited

if TYPE_CHECKING:
    from fastcnn.data import Dataset
    from fastcnn.distributed import World
    from fastcnn.layers import Model
    from fastcnn.recipes import NamedRecipe
    from fastcnn.training.evaluation import Evaluation
    from fastcnn.training.history import History
    from fastcnn.training.options import TrainingOptions
    from fastcnn.training.run import NewRun


@with_options(Recipe)
def train(
    context: typer.Context,
    *,
    data: Annotated[
        str | None,
        typer.Option(
            help="mnist, mnist012, fashion_mnist, cifar10, cifar100, digits, digits012, an .npz, "
            ".csv or .parquet file, a folder with a subfolder for each class, or a zip or tar "
            "archive of one. By default mnist012, or drawn digits if MNIST is unavailable.",
            rich_help_panel="Data",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the data files; by default FASTCNN_DATA_DIR.", rich_help_panel="Data"
        ),
    ] = None,
    validation_split: Annotated[
        bool,
        typer.Option(
            "--validation-split",
            help="Leave out MNIST's first 5,000 training images, as the report did.",
            rich_help_panel="Data",
        ),
    ] = False,
    image_size: ImageSize = None,
    gray: InGray = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Name of a recipe (see fastcnn recipes), or a .toml recipe file; options given "
            "here override its own."
        ),
    ] = None,
    write_recipe: Annotated[
        Path | None,
        typer.Option(help="Write the recipe, with the given options applied, as TOML."),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard events to the run's folder.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; by default runs/TIME-MODEL.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Use the folder of --out even if it is not empty.")
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Continue the run in this folder from its last checkpoint, with its options. "
            "Can be combined only with --epochs, --threads, --no-diagnose and --quiet."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
    **options: Any,
) -> None:
    """Train a network and write a run: config, metrics, weights, checkpoints and curves.

    For a folder of pictures, image size, model, number of epochs, augmentation and early stopping
    are chosen automatically; the output lists the choices. Options override them.

    After Ctrl-C or SIGTERM, --resume continues the run as if it had never stopped.

    Examples:

      fastcnn train

      fastcnn train --activation sigmoid --epochs 10

      fastcnn train --model lenet5 --data mnist --schedule one-cycle --lr 0.05

      fastcnn train --data pictures

      fastcnn train --recipe mnist-99

      fastcnn train --model net.toml --data digits

      fastcnn train --data photos --init old.safetensors --skip "fc.*"

      fastcnn train --resume runs/20260101-120000-report_cnn

      mpiexec -n 4 python -m mpi4py -m fastcnn train
    """
    from fastcnn.distributed import join

    given = {  # in JSON types
        name: str(value) if isinstance(value, Path) else value
        for name, value in context.params.items()
    }
    world = join()
    with one_voice(world), world.guard():
        saved = None
        with world.preparing():
            if resume is not None and world.is_root:
                saved = _resumed(context, resume, given)
            given["typed"] = typed(context)
        saved, given = world.from_root([saved, given])
        _train(SimpleNamespace(**given), saved, world)


def _resumed(context: typer.Context, folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """The config of a run to resume, with the given number of epochs; modifies ``given``."""
    from fastcnn.training.run import Run

    config = Run.open(folder).config
    if config["data"].get("source") is None:
        raise CheckpointError(f"{folder} was not started by fastcnn train: resume it from Python")
    chosen = set(typed(context)) - {"resume"}
    fixed = sorted(chosen - {"epochs", "threads", "quiet", "diagnose"})
    if fixed:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in fixed)
        raise ConfigurationError(f"{names}: a resumed run keeps the options it was started with")
    before = config["training"]["epochs"]
    if "epochs" not in chosen:
        given["epochs"] = before
    if config.get("status") == "finished" and given["epochs"] <= before:
        raise ConfigurationError(
            f"{folder} finished its {counted(before, 'epoch')}: give more with --epochs"
        )
    given |= {name: config["data"].get(name) for name in ("data_dir", "validation_split")}
    given["data"] = config["data"]["source"]
    return config


@dataclass(frozen=True)
class Job:
    """A training that the command line describes; ``recipe`` is that of ``--recipe``."""

    name: str
    network: "Model"
    training: "Dataset"
    test: "Dataset"
    options: "TrainingOptions"
    out: "NewRun"
    recipe: "NamedRecipe | None" = None

    def describe(self, processes: int) -> str:
        """One line about the network and its data."""
        together = f", on {processes} MPI processes" if processes > 1 else ""
        return (
            f"{self.name}: {counted(self.network.num_parameters, 'parameter')}, "
            f"{self.training.name}: {len(self.training):,} training and "
            f"{counted(len(self.test), 'test image')} of "
            f"{counted(len(self.training.classes), 'class')}{together}"
        )


def _saved_job(o: SimpleNamespace, saved: dict[str, Any], console: Screen) -> Job:
    """The training of a run to resume."""
    from fastcnn.data.preprocessing import Preprocessing
    from fastcnn.training.options import TrainingOptions
    from fastcnn.training.run import NewRun, untrained_model

    changes = {name: getattr(o, name) for name in ("epochs", "threads", "diagnose")}
    options = TrainingOptions.from_config(saved, **changes)
    preprocessing = Preprocessing.from_dict(saved["preprocessing"])
    training, test, source = load_training(o, console, preprocessing)
    own = replace(training.preprocessing, mean=preprocessing.mean, std=preprocessing.std)
    training, test = (replace(part, preprocessing=own) for part in (training, test))
    network, folder = untrained_model(saved, options.seed), Path(o.resume)
    name = saved["model"]["name"] or folder.name
    return Job(name, network, training, test, options, NewRun(folder, source=source))


def _named_job(o: SimpleNamespace, console: Screen) -> Job:
    """The training of ``--recipe``, with the given options applied."""
    from fastcnn.recipes import get
    from fastcnn.training.declarations import declarations

    changeable = {*declarations(Recipe), "data"}
    named = get(o.recipe).changed({k: getattr(o, k) for k in o.typed if k in changeable})
    o.data = named.data_name
    training, test, source = load_training(o, console)
    training, test = named.prepared(training), named.prepared(test)
    network, arguments = named.make_model(training), named.model_arguments(training)
    out = _new_run(o, named.name, named.model_name, arguments, source)
    return Job(named.name, network, training, test, named.options, out, named)


def _plain_job(o: SimpleNamespace, console: Screen) -> Job:
    """The training that the options describe; what they leave open is chosen for pictures."""
    from fastcnn.training.declarations import declarations

    recipe = Recipe(**{k: getattr(o, k) for k in declarations(Recipe)})
    training, test, source = load_training(o, console)
    if training.files:
        chosen = suited(training, recipe, o.typed)
        recipe = replace(recipe, **chosen)
        words = as_words(Recipe(**chosen))
        console.say(f"chosen for {counted(len(training), 'picture')}: {words}")
    network = recipe.make_model(training, console.say)
    model = recipe.model_name(training)
    name = Path(model).stem
    out = _new_run(o, name, model, recipe.model_arguments(training), source)
    return Job(name, network, training, test, recipe, out)


def _new_run(
    o: SimpleNamespace, name: str, model: str, arguments: dict[str, Any], source: dict[str, Any]
) -> "NewRun":
    from fastcnn.training.run import NewRun

    # A network from a description has no arguments, and its file may have a model's name.
    known = model if arguments else None
    folder = Path(o.out or free_folder(name))
    return NewRun(folder, o.overwrite, known, arguments, source, o.init, o.skip)


def _check_words(o: SimpleNamespace, processes: int) -> None:
    """Refuse options that have no effect without others."""
    if o.overwrite and o.out is None:
        raise ConfigurationError("--overwrite has no effect without --out")
    if "sync_batch_norm" in o.typed and processes == 1:
        raise ConfigurationError("--sync-batch-norm has no effect on one process")
    if o.write_recipe is not None:
        if o.recipe is None:
            raise ConfigurationError("--write-recipe has no effect without --recipe")
        from fastcnn.recipes.named_recipe import check_file_name

        check_file_name(o.write_recipe)


def _train(o: SimpleNamespace, saved: dict[str, Any] | None, world: "World") -> None:
    """Train with the options, on the processes of ``world``; resumes a saved run."""
    threading.Thread(target=_begin_ahead, args=(world.is_root,)).start()
    console = Screen(o.quiet or not world.is_root)
    with world.preparing():
        _check_words(o, world.size)
        if saved is not None:
            job = _saved_job(o, saved, console)
        else:
            job = _plain_job(o, console) if o.recipe is None else _named_job(o, console)
            if world.is_root:
                from fastcnn.training.run import check_free

                check_free(job.out.folder, o.overwrite)
    console.say(job.describe(world.size))
    folder = job.out.folder
    if world.size > 1:
        # If a process dies, the launcher prints the last message and cannot say this.
        console.say(
            f"if the job is cut short: fastcnn train --resume {folder}, on any number of processes"
        )
    _run(job, o, saved is not None, world, console)


def _run(job: Job, o: SimpleNamespace, resume: bool, world: "World", console: Screen) -> None:
    """Train, and report the result."""
    from fastcnn.cli.compiling import Compiling
    from fastcnn.training import TensorBoard, evaluate, fit
    from fastcnn.training.progress import progress_callback
    from fastcnn.training.run import WEIGHTS

    compiling, folder = Compiling(), job.out.folder
    callbacks: list[Callback] = [compiling]
    if world.is_root:
        callbacks.append(progress_callback(console))
        if o.write_recipe is not None and job.recipe is not None:
            callbacks.append(RecipeWriter(job.recipe, o.write_recipe))
        if o.tensorboard:
            callbacks.append(TensorBoard(folder))
    try:
        history = fit(
            job.network,
            job.training,
            job.test,
            **job.options.training(),
            callbacks=callbacks,
            out=job.out,
            resume=resume,
            world=world,
        )
    except KeyboardInterrupt as interrupt:
        if world.is_root:
            complain(
                f"interrupted: weights and metrics so far are in {folder}; "
                f"continue with fastcnn train --resume {folder}"
            )
        world.known_error = SystemExit(interrupted_code(interrupt))
        raise world.known_error from None
    except NonFiniteError as error:
        if error is not world.known_error:  # before the run was created
            raise
        world.known_error = NonFiniteError(
            f"{error}. Weights and metrics up to then are in {folder}; --init "
            f"{folder / WEIGHTS} starts from them"
        )
        raise world.known_error from None
    if world.is_root:
        tta = None if job.recipe is None else job.recipe.tta
        measured = None
        if job.options.early_stopping is not None or tta is not None:
            loss = job.options.make_loss()
            measured = evaluate(job.network, job.test, loss=loss, tta=tta)
        _conclude(console, folder, history, measured, compiling.seconds)


class RecipeWriter(Callback):
    """Writes a recipe when its training begins: ``fit`` has not refused it."""

    def __init__(self, recipe: "NamedRecipe", path: str) -> None:
        self.recipe, self.path = recipe, path

    def on_train_begin(self, start: TrainingStart) -> None:
        """Write the file."""
        self.recipe.write(self.path)


def _conclude(
    console: Screen,
    folder: Path,
    history: "History",
    evaluation: "Evaluation | None",
    compiling: float,
) -> None:
    """Report the network's accuracy, where everything was written, and what to do next.

    ``evaluation`` is that of the kept weights, if they are not those of the last epoch. The time of
    the first epoch includes ``compiling`` seconds.
    """
    from fastcnn.training.progress import metrics_of
    from fastcnn.training.run import CURVES

    final, where, word = history.final, str(folder), shlex.quote(str(folder))
    if final:
        loss, accuracy = final["test_loss"], final["test_accuracy"]
        if evaluation is not None:
            loss, accuracy = evaluation.loss, None if accuracy is None else evaluation.accuracy
        seconds = sum(epoch["seconds"] for epoch in history.epochs)
        images = sum(epoch["seconds"] * epoch["samples_per_second"] for epoch in history.epochs)
        share = "" if accuracy is None else f"test accuracy {100 * accuracy:.2f} %, "
        if evaluation is None:
            share += "".join(f"test {k} {v}, " for k, v in metrics_of(final, "test").items())
        waited = ""
        if 0.1 < compiling < seconds:
            seconds -= compiling
            waited = f" after {compiling:.1f} s of compiling"
        seconds = max(seconds, 1e-9)
        console.say(
            f"{share}test loss {loss:.4f}; trained in {seconds:.2f} s{waited}, "
            f"{images / seconds:,.0f} images/s"
        )
    drawn = f"; {CURVES} shows its losses and accuracies" if (folder / CURVES).exists() else ""
    console.say(f"run written to {where}{drawn}")
    console.print(
        f"next: fastcnn evaluate {word}\n"
        f"      fastcnn predict {word} PICTURE\n"
        f"      fastcnn serve {word}",
        soft_wrap=True,
    )


def _begin_ahead(compiles: bool) -> None:
    """Import modules needed later while the data are unpacked, which releases the GIL.

    If nothing is compiled yet, the compiler's modules are imported at the same time. A missing
    module is reported where it is needed.
    """
    if compiles:
        with suppress(Exception):
            from fastcnn.codegen import build

            build.start_ahead("fastcnn.backends.lanes")
    for name in ("fastcnn.backends.lanes", "PIL.Image", "PIL.ImageDraw", "PIL.ImageFont"):
        with suppress(Exception):
            import_module(name)
