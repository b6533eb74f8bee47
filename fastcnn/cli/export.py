"""``fastcnn export``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape


def export(
    run: Annotated[Path, typer.Argument(help="Folder that fastcnn train wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write, .onnx or .safetensors; by default RUN.onnx.")
    ] = None,
    fold: Annotated[
        bool, typer.Option(help="Fold batch normalisation into the layers before it.")
    ] = False,
) -> None:
    """Write a trained network for other tools: ONNX, or PyTorch's state_dict as safetensors.

    The ONNX file takes normalised images of shape (batch, C, H, W) and gives logits. The
    safetensors file has PyTorch's keys and layouts, for safetensors.torch.load_file and
    load_state_dict.
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
    else:
        raise ConfigurationError(f"--out must end in .onnx or .safetensors, got {target.name!r}")
    Console(highlight=False).print(
        f"written: {escape(str(target))}; its input is what preprocessing makes of images: "
        f"{saved.preprocessing.describe()}",
        soft_wrap=True,
    )
