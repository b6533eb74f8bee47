"""``fastcnn study``."""

from pathlib import Path
from typing import Annotated

import typer

from fastcnn.cli.arguments import DataDir
from fastcnn.cli.lines import complain
from fastcnn.cli.screen import Screen
from fastcnn.cli.signals import interrupted_code


def study(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(metavar="EXPERIMENT...", help="Experiments to run; by default all."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the page and the figures.")] = Path("study"),
    data_dir: DataDir = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few steps, to try it out.")] = False,
) -> None:
    """Answer the report's questions by experiment, and write a page of results.

    OUT/index.html is one self-contained page in English and Chinese; OUT/figures has its figures.
    The page is rewritten after each experiment, so that Ctrl-C loses no finished one. If MNIST is
    unavailable, digits drawn by fastcnn are used.

    The experiments are reproduction (the report's training runs), gallery (a few of its filters and
    mistakes), wrong_gradients, activations, underfitting and overfitting.

    Examples:

      fastcnn study

      fastcnn study reproduction --out reproduction

      fastcnn study --quick
    """
    from fastcnn.data import load, load_default
    from fastcnn.errors import ConfigurationError, counted
    from fastcnn.study.run import EXPERIMENTS, run_study
    from fastcnn.study.setting import Setting

    console = Screen()
    chosen = tuple(experiments or EXPERIMENTS)
    unknown = [name for name in chosen if name not in EXPERIMENTS]
    if unknown:
        raise ConfigurationError(
            f"no experiment {unknown[0]!r}: there are {', '.join(EXPERIMENTS)}"
        )
    train, test, missing = load_default(data_dir)
    if missing:
        console.say(missing, style="yellow")
    else:
        whole, test = load("mnist", data_dir=data_dir)
        digits = ("0", "1", "2")
        # As in the report: without the 5,000 images that its loader held out for validation.
        train = whole.subset(slice(5000, None)).select_classes(digits)
        test = test.select_classes(digits)
    progress = console.status("")
    with progress:
        left = list(chosen)

        def tell(name: str, seconds: float) -> None:
            console.say(f"{name}: {seconds:.0f} s")
            left.remove(name)
            progress.update(f"{left[0]} ..." if left else "")

        def tell_of_runs(done: int, total: int) -> None:
            words = f"{left[0]}: {done} of {counted(total, 'run')}"
            if console.is_terminal:
                progress.update(words)
            elif 4 * done // total > 4 * (done - 1) // total:
                console.say(words)

        progress.update(f"{left[0]} ...")
        setting = Setting(train, test, quick, tell_of_runs)
        try:
            page = run_study(setting, out, chosen=chosen, tell=tell)
        except KeyboardInterrupt as interrupt:
            progress.stop()
            count = len(chosen) - len(left)
            done = f"{count} of {counted(len(chosen), 'experiment')}"
            has = f"{out / 'index.html'} has {done}" if count else "no experiment has finished"
            rest = f"; not run: {', '.join(left)}" if left else ""
            complain(f"interrupted: {has}{rest}")
            raise SystemExit(interrupted_code(interrupt)) from None
    console.say(f"written: {page}")
