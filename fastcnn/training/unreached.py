"""Warnings about settings that have no effect within a run."""

from collections.abc import Iterator, Sequence
from typing import Any

from fastcnn.errors import counted
from fastcnn.optim import MultiStep, StepDecay, Warmup, learning_rates
from fastcnn.training.callbacks import Callback, uncalled
from fastcnn.training.monitors import EarlyStopping
from fastcnn.training.options import TrainingOptions

#: Number of steps whose learning rates are examined, and the share of the full rate that counts.
LOOKED_AT, HARDLY = 1_000, 0.01


def unreached(
    options: TrainingOptions, listeners: Sequence[Callback], samples: int, per_epoch: int
) -> Iterator[str]:
    """A sentence for each setting that never takes effect in a run.

    An epoch has ``samples`` samples in ``per_epoch`` steps.
    """
    for listener in listeners:
        yield from uncalled(listener)
    epochs, total = options.epochs, options.total_steps(per_epoch)
    if not epochs:
        yield "epochs=0: the model is not trained, its weights stay as they are"
        return
    length = counted(epochs, "epoch")
    schedule: Any = options.make_schedule()
    rate = highest = options.make_optimizer().lr
    if total <= LOOKED_AT:
        highest = learning_rates(schedule, rate, 0, total, total, per_epoch).max()
    if highest <= HARDLY * rate:
        yield (
            f"the learning rate is at most {highest:g} in {counted(total, 'step')} "
            f"(lr={rate:g}): the weights {'hardly change' if highest else 'do not change'}"
        )
    if isinstance(schedule, Warmup):
        if schedule.steps >= total:
            yield (
                f"the warm-up takes {counted(schedule.steps, 'step')}, and the training has "
                f"{counted(total, 'step')}: the learning rate does not reach its full value"
            )
        schedule = schedule.then
    if isinstance(schedule, MultiStep):
        late = [str(epoch) for epoch in schedule.milestones if epoch >= epochs]
        if late:
            yield f"milestones at epoch {', '.join(late)} have no effect within {length}"
    if isinstance(schedule, StepDecay) and schedule.every_epochs >= epochs > 1:
        yield (
            f"the learning rate falls every {schedule.every_epochs} epochs, which is never within "
            f"{length}"
        )
    for listener in listeners:
        # The first epoch is always the best so far.
        if isinstance(listener, EarlyStopping) and listener.patience >= epochs - 1:
            patience = counted(listener.patience, "epoch")
            yield (
                f"early stopping after {patience} without improvement cannot end a run of "
                f"{length} early"
            )
    batches = -(-samples // options.batch_size)
    if options.accumulate > batches:
        yield (
            f"accumulate={options.accumulate}: an epoch has {batches} "
            f"{'batch' if batches == 1 else 'batches'} of batch_size={options.batch_size}, and so "
            "one step, of all its samples"
        )
