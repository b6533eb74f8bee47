"""What options ask for after the end of a run, which is said."""

from collections.abc import Iterable, Iterator
from typing import Any

from fastcnn.errors import ConfigurationError
from fastcnn.optim import Lookahead, MultiStep, StepDecay, Warmup, learning_rates
from fastcnn.training.callbacks import Callback
from fastcnn.training.monitors import EarlyStopping
from fastcnn.training.options import TrainingOptions

#: Steps whose learning rates are looked at, and the share of the full rate that moves weights.
LOOKED_AT, HARDLY = 1_000, 0.01


def check_lookahead(options: TrainingOptions, total: int) -> None:
    """Refuse slow weights that would never move: they are what is kept.

    Raises
    ------
    ConfigurationError
    """
    if options.lookahead is None:
        return
    every = Lookahead.of(options.lookahead).every
    if every > total > 0:
        raise ConfigurationError(
            f"lookahead: every={every} has no effect within {_steps(total)}: the slow weights, "
            "which are kept, would stay as they are"
        )


def unreached(
    options: TrainingOptions, listeners: Iterable[Callback], samples: int, per_epoch: int
) -> Iterator[str]:
    """A sentence for each setting that is not reached in the epochs and steps of a run.

    Parameters
    ----------
    options : TrainingOptions
    listeners : iterable of Callback
    samples : int
        Samples of an epoch.
    per_epoch : int
        Steps of an epoch.
    """
    epochs, total = options.epochs, options.total_steps(per_epoch)
    if not epochs:
        return
    schedule: Any = options.make_schedule()
    rate = highest = options.make_optimizer().lr
    if total <= LOOKED_AT:
        highest = learning_rates(schedule, rate, 0, total, total, per_epoch).max()
    if highest <= HARDLY * rate:
        yield (
            f"the learning rate is at most {highest:g} in {_steps(total)}, where lr={rate:g}: the "
            f"weights {'hardly change' if highest else 'stay as they are'}"
        )
    if isinstance(schedule, Warmup):
        if schedule.steps >= total:
            yield (
                f"the warm-up takes {schedule.steps:,} steps, and the training has "
                f"{_steps(total)}: the learning rate does not reach its full value"
            )
        schedule = schedule.then
    if isinstance(schedule, MultiStep):
        late = [str(epoch) for epoch in schedule.milestones if epoch >= epochs]
        if late:
            yield f"milestones at epoch {', '.join(late)} have no effect within {_epochs(epochs)}"
    if isinstance(schedule, StepDecay) and schedule.every_epochs >= epochs > 1:
        yield (
            f"the learning rate falls every {schedule.every_epochs} epochs, which is never within "
            f"{_epochs(epochs)}"
        )
    for listener in listeners:
        # The first epoch is the best so far.
        if isinstance(listener, EarlyStopping) and listener.patience >= epochs - 1:
            yield (
                f"early stopping after {listener.patience} epochs without improvement cannot end "
                f"a training of {_epochs(epochs)} early"
            )
    batches = -(-samples // options.batch_size)
    if options.accumulate > batches:
        yield (
            f"accumulate={options.accumulate}: an epoch has {batches} "
            f"{'batch' if batches == 1 else 'batches'} of batch_size={options.batch_size}, and so "
            "one step, of all its samples"
        )


def _steps(count: int) -> str:
    return f"{count:,} step{'' if count == 1 else 's'}"


def _epochs(count: int) -> str:
    return f"{count:,} epoch{'' if count == 1 else 's'}"
