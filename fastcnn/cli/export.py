"""``fastcnn export``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape


def export(
    run: Annotated[Path, typer.Argument(help="Folder that fastcnn train wrote.")],
    out: Annotated[
        Path | None,
        typer.Option(help="File to write: .onnx, .safetensors or .h (C); by default RUN.onnx."),
    ] = None,
    fold: Annotated[
        bool, typer.Option(help="Fold batch normalisation into the layers before it.")
    ] = False,
) -> None:
    """Write a trained network for other tools: ONNX, PyTorch's state_dict, or one C99 file.

    The ONNX file takes normalised images of shape (batch, C, H, W) and gives logits. The
    safetensors file has PyTorch's keys and layouts, for safetensors.torch.load_file and
    load_state_dict. The C file needs no library: its NAME_predict takes an image as it is, floats
    or bytes, and gives the probabilities.
    """
    from fastcnn.errors import ConfigurationError
    from fastcnn.training.run import Run

    saved = Run.open(run)
    model = saved.load_model()
    model = model.fold_batch_norm() if fold else model
    target = out or run.with_suffix(".onnx")
    if target.suffix == ".onnx":
        from fastcnn.interop import export_onnx

        export_onnx(model, target)
    elif target.suffix == ".safetensors":
        from fastcnn.interop.torch_names import save_state

        save_state(model, target)
    elif target.suffix == ".h":
        from fastcnn.interop.c import export_c

        written = export_c(model, target, classes=saved.classes)
        Console(highlight=False).print(
            f"written: {escape(str(target))}; {written.flash:,} bytes of constants, "
            f"{written.ram:,} bytes of working memory; call {written.name}_predict",
            soft_wrap=True,
        )
        return
    else:
        raise ConfigurationError(
            f"--out must end in .onnx, .safetensors or .h, got {target.name!r}"
        )
    Console(highlight=False).print(
        f"written: {escape(str(target))}; its input is what preprocessing makes of images: "
        f"{saved.normalisation.describe()}",
        soft_wrap=True,
    )
