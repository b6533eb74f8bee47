"""The keyword arguments of ``fit``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcnn.distributed import World
from fastcnn.errors import ConfigurationError
from fastcnn.losses import as_loss
from fastcnn.training.callbacks import Callback, check_methods
from fastcnn.training.declarations import option
from fastcnn.training.options import TrainingOptions
from fastcnn.training.run import NewRun


@dataclass(frozen=True, kw_only=True)
class FitArguments(TrainingOptions):
    """The keyword arguments of :func:`fit`: options of the training, callbacks, output."""

    callbacks: Sequence[Callback] = option((), "Called during training.", part="")
    out: str | Path | NewRun | None = option(
        None,
        "Folder to write the run to: config, metrics, weights, checkpoints and curves.",
        part="",
    )
    resume: bool = option(
        False,
        "Continue the run in out from its last checkpoint, as if it had never stopped. The "
        "model, the data and all options except threads, epochs and diagnose must be unchanged.",
        part="",
    )
    world: World | None = option(
        None,
        "The processes of an MPI job, from fastcnn.distributed.join(). All of them call this "
        "with the same arguments; batch_size is the total of all. Every process calls its "
        "callbacks; only the root writes to out, and decisions of its callbacks apply to all.",
        part="",
    )
    verbose: bool = option(
        False,
        "Show progress: a bar on a terminal or in a notebook, otherwise a line per epoch.",
        part="",
    )

    loss_weights: Any = option(
        None,
        "Factor of each of several losses, in their order or by name; by default 1.",
        part="",
    )

    def __post_init__(self) -> None:
        if self.loss_weights is not None or isinstance(self.loss, (list, tuple, Mapping)):
            object.__setattr__(self, "loss", as_loss(self.loss, self.loss_weights))
            object.__setattr__(self, "loss_weights", None)
        super().__post_init__()
        if isinstance(self.callbacks, Callback) or not isinstance(self.callbacks, Sequence):
            raise ConfigurationError(
                f"callbacks must be a list of Callback, got {self.callbacks!r}"
            )
        for index, callback in enumerate(self.callbacks):
            if not isinstance(callback, Callback):
                raise ConfigurationError(
                    f"callbacks[{index}] must be an object of a class derived from "
                    f"fastcnn.training.Callback, got {callback!r}"
                )
            check_methods(callback)
        if self.world is not None and not isinstance(self.world, World):
            raise ConfigurationError(
                f"world must come from fastcnn.distributed.join(), got {self.world!r}"
            )
        processes = 1 if self.world is None else self.world.size
        # A run on several processes may be resumed on one.
        if self.average_every > 1 and processes == 1 and not self.resume:
            raise ConfigurationError(
                f"average_every={self.average_every} has no effect on one process"
            )
        if not self.sync_batch_norm and processes == 1 and not self.resume:
            raise ConfigurationError("sync_batch_norm=False has no effect on one process")
        root = self.world is None or self.world.is_root
        if self.resume and self.out is None and root:
            raise ConfigurationError("resume needs the run's folder: out=FOLDER")
