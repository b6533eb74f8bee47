"""``fastcnn warmup``, and the same in the background of other commands."""

import threading
import time
from typing import ClassVar

from rich.console import Console
from rich.markup import escape


class Kernels:
    """Loads the lanes kernels, or compiles them, while a command prepares something else."""

    thread: ClassVar[threading.Thread | None] = None

    def __init__(self, backend: str | None) -> None:
        from fastcnn.backends import DEFAULT_BACKEND

        if (backend or DEFAULT_BACKEND) == "lanes":
            Kernels.thread = threading.Thread(target=_start, daemon=True)
            Kernels.thread.start()

    @classmethod
    def are_on_their_way(cls) -> bool:
        """Whether a thread of this process is still loading or compiling them."""
        return cls.thread is not None and cls.thread.is_alive()

    def wait(self, console: Console) -> None:
        """Return when the kernels are there; on a terminal, show that it is going on."""
        if self.thread is None:
            return
        self.thread.join(0.5)
        if self.thread.is_alive():
            with console.status("compiling the kernels, once on this machine (about 10 s)"):
                self.thread.join()


def _start() -> None:
    from fastcnn.backends.lanes import compiled

    compiled.start()


def _compile_others() -> None:
    """Use each of the smaller kernels once: of augmentation, of drawn digits, of im2col."""
    import numpy as np

    from fastcnn import models
    from fastcnn.data import Augment, draw_digits
    from fastcnn.execution.passes import loss_and_gradients

    images, labels = draw_digits(1)
    Augment(mixup=1.0).mix(images, labels, classes=10, threads=1)
    for activation in ("relu", "sigmoid"):
        model = models.report_cnn(activation, seed=0, num_classes=10)
        loss_and_gradients(model, images.astype(np.float32), labels, backend="im2col")


def warmup() -> None:
    """Compile the kernels for this machine and keep them, so that nothing else has to wait.

    Training does the same at its first start, but for the kernels of augmentation and of drawn
    digits, which it compiles when they are needed. The kernels are kept in the user's cache, or
    where FASTCNN_CACHE_DIR says; another processor, numba or fastcnn has its own.
    """
    from fastcnn.backends.lanes import compiled

    console = Console(highlight=False)
    Kernels("lanes").wait(console)
    start = compiled.start()
    did = "compiled" if start.compiled else "loaded"
    where = f"kept in {start.folder}" if start.folder else "not kept: no folder can be written"
    console.print(f"kernels {did} in {start.seconds:.1f} s, {escape(where)}", soft_wrap=True)
    began = time.perf_counter()
    with console.status("compiling the kernels of augmentation, drawn digits and im2col"):
        _compile_others()
    console.print(
        f"kernels of augmentation, drawn digits and im2col ready in "
        f"{time.perf_counter() - began:.1f} s"
    )
