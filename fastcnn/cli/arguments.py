"""Arguments and options shared by several commands."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

#: The networks by name, without importing them.
ModelName = StrEnum(
    "ModelName",
    "report_cnn lenet5 vgg_small resnet8 resnet20 airbench densenet_bc_40 squeezenet "
    "mobilenet_v2 ds_cnn",
)
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run.")]
Network = Annotated[ModelName, typer.Option(metavar="NAME", help=", ".join(ModelName))]
Backend = Annotated[str | None, typer.Option(help="reference, im2col or lanes (the default).")]
Invert = Annotated[
    bool | None,
    typer.Option(help="Whether to exchange black and white; by default as in training."),
]
AnyData = Annotated[
    str | None, typer.Option(help="As for fastcnn train: a name, a file, or a folder.")
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the data files; by default FASTCNN_DATA_DIR.")
]
Picture = Annotated[Path, typer.Option(help="Picture to write: .png, .svg or .pdf.")]
ImageSize = Annotated[
    str | None,
    typer.Option(
        help="Size to which picture files are resized, such as 32 or 32x48 (height x width); by "
        "default the largest that most of them fill, at most 64.",
        rich_help_panel="Data",
    ),
]
InGray = Annotated[
    bool | None,
    typer.Option(
        "--gray/--rgb",
        help="Read picture files in grey or in colour; by default in colour if any has colour.",
        rich_help_panel="Data",
    ),
]
