"""``fastcnn data``: prepare, show and list data sets."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from fastcnn.cli.arguments import DataDir, Picture
from fastcnn.cli.screen import Screen, number_columns

app = typer.Typer(no_args_is_help=True)


@app.callback()
def data() -> None:
    """Prepare, show and list data sets."""


@app.command(context_settings={"allow_extra_args": True})
def prepare(
    context: typer.Context,
    classes: Annotated[
        list[str] | None,
        typer.Option(help="Classes to keep, as --classes 0 1 2 (the default) or 0,1,2."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The .npz file to write.")] = Path("mnist012.npz"),
    data: Annotated[str, typer.Option(help="mnist, fashion_mnist, digits, or a path.")] = "mnist",
    data_dir: DataDir = None,
    validation_split: Annotated[
        bool,
        typer.Option(
            "--validation-split",
            help="Leave out MNIST's first 5,000 training images, as the report did.",
        ),
    ] = False,
) -> None:
    """Write some classes of a data set as one .npz file.

    Its arrays have the report's names: train_x012, train_y012, test_x012, test_y012.

    Example: fastcnn data prepare --classes 0 1 2 --out mnist012.npz
    """
    from fastcnn.data import load, write_npz
    from fastcnn.errors import ConfigurationError

    if out.suffix.lower() != ".npz":
        raise ConfigurationError(f"--out must end in .npz, got {str(out)!r}")
    if context.args and not classes:
        raise ConfigurationError(
            f"unexpected {' '.join(context.args)}: the data set follows --data, classes --classes"
        )
    # Click options take one value each; further values arrive as extra arguments.
    given = [*(classes or ("0", "1", "2")), *context.args]
    wanted = [part for item in given for part in item.split(",") if part]
    train, test = load(
        data, data_dir=data_dir, classes=wanted, validation_split=validation_split, progress=True
    )
    write_npz(out, train, test)
    Screen().say(
        f"{out}: {len(train):,} training and {len(test):,} test images of classes "
        f"{', '.join(train.classes)}"
    )


@app.command()
def show(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A name or path, as for fastcnn train.")
    ],
    out: Picture = Path("data.png"),
    data_dir: DataDir = None,
) -> None:
    """Count the images of each class, and draw some of them.

    Example: fastcnn data show digits --out digits.png
    """
    from fastcnn.analysis.figures import samples_figure
    from fastcnn.analysis.metrics import confusion_matrix
    from fastcnn.data import load
    from fastcnn.training.figure import figure_format, save_figure

    figure_format(out)
    train, test = load(data, data_dir=data_dir, progress=True)
    count = len(train.classes)
    counts = [
        confusion_matrix(part.labels, part.labels, count).diagonal() for part in (train, test)
    ]
    table = Table("class", *number_columns("training images", "test images"))
    for label, first, second in zip(train.classes, *counts, strict=True):
        table.add_row(label, f"{first:,}", f"{second:,}")
    table.add_row("all", f"{len(train):,}", f"{len(test):,}")
    console = Screen()
    console.show(table)
    save_figure(samples_figure(train), out)
    console.say(f"picture: {out}")


@app.command("list")
def list_sets(data_dir: DataDir = None) -> None:
    """List the named data sets, and where each would be read from."""
    from fastcnn.data.sources import SOURCES, find_cifar, find_folder

    table = Table("name", "what", Column("from", overflow="fold"))
    for name, what in (
        ("mnist", "handwritten digits, 60,000 + 10,000"),
        ("mnist012", "its digits 0, 1, 2: 18,623 + 3,147"),
        ("fashion_mnist", "clothes, 60,000 + 10,000"),
        ("cifar10", "small photographs, 50,000 + 10,000"),
        ("cifar100", "the same with 100 classes, 50,000 + 10,000"),
    ):
        source = SOURCES.get(name.removesuffix("012"))
        found = find_folder(source, data_dir) if source else find_cifar(name, data_dir)
        table.add_row(name, what, str(found or "a download"))
    table.add_row("digits", "drawn digits, 12,000 + 2,000", "the package itself")
    table.add_row("digits012", "drawn digits 0, 1, 2, 12,000 + 2,000", "the package itself")
    Screen().show(table)
