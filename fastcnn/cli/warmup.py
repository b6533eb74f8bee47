"""``fastcnn warmup``."""

import time

from fastcnn.cli.screen import Screen


def _use_functions() -> None:
    """Call each of the other compiled functions once: augmentation, drawn digits, im2col."""
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
    """Compile all kernels for this machine, so that no later command has to wait.

    Without this, training compiles the kernels that its network needs when it first runs. They are
    cached in the user's cache folder, or in FASTCNN_CACHE_DIR, separately for each processor and
    each version of numba and fastcnn.
    """
    from fastcnn.backends.lanes import all_sources
    from fastcnn.codegen import build
    from fastcnn.codegen.store import object_folder
    from fastcnn.errors import ConfigurationError
    from fastcnn.extras import NOT_INSTALLED, numba_version

    if numba_version() == NOT_INSTALLED:
        raise ConfigurationError("numba compiles the kernels, and is not installed")
    folder = object_folder()  # says why it cannot be used
    if folder is None:
        raise ConfigurationError("no kernel can be kept: FASTCNN_CACHE_DIR sets the folder")
    console = Screen()
    began = time.perf_counter()
    with console.status("compiling the kernels for this processor, once"):
        build.addresses(all_sources())
        _use_functions()
    console.say(
        f"{len(build.report.compiled)} kernels compiled and {len(build.report.loaded)} loaded in "
        f"{time.perf_counter() - began:.1f} s, cached in {folder}"
    )
