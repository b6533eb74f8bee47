"""The options of a training run, declared once.

The fields of :class:`TrainingOptions` define the keyword arguments of ``fit``, the options of
``fastcnn train``, the keys of a sweep and the entries of a run's config: a new option is one field.
"""

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from types import NoneType
from typing import Any, Self

import numpy as np

from fastcnn import losses
from fastcnn.backends import BACKENDS
from fastcnn.data.augment import Augment
from fastcnn.errors import ConfigurationError, counted
from fastcnn.losses import LOSSES, Loss
from fastcnn.optim import (
    OPTIMIZERS,
    SCHEDULES,
    Assignment,
    Lookahead,
    Optimizer,
    ParameterGroup,
    Schedule,
    as_groups,
    as_optimizer,
    as_schedule,
    optimizers,
    schedules,
)
from fastcnn.scalars import plain
from fastcnn.training.callbacks import Callback
from fastcnn.training.declarations import check_value, declarations, option
from fastcnn.training.metrics import Metric, as_metrics, described, larger_is_better
from fastcnn.training.monitors import EarlyStopping, ReduceLROnPlateau

#: Learning rate that requests a search for one.
AUTO = "auto"
#: None where values are text, as on the command line and in a recipe's file.
NONE = "none"


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """All settings of a training run except its model and data.

    Raises
    ------
    ConfigurationError
        If a value is not accepted, or an option that was given has no effect with the others.
    """

    epochs: int = option(5, "Passes over the training data.", least=0)
    batch_size: int = option(
        64, "Samples per step; the last batch of an epoch may be smaller.", least=1
    )
    accumulate: int = option(
        1,
        "Accumulate the gradients of this many batches before each step: like one larger batch, "
        "in less memory.",
        least=1,
    )
    loss: str | Loss = option("cross_entropy", "Loss to minimise.", choices=LOSSES, part="loss")
    label_smoothing: float | None = option(
        None,
        "Share of the target spread over all classes (cross_entropy only); by default 0.",
        part="loss",
    )
    optimizer: str | Optimizer = option("sgd", "Optimiser.", choices=OPTIMIZERS, part="optimizer")
    lr: float | str | None = option(
        None,
        "Learning rate; auto finds one before training (see fastcnn.lr_find); by default 0.02 "
        "for sgd and muon, 0.001 for adam, adamw and rmsprop, 0.002 for nadam, 0.01 for adagrad, 1 "
        "for adadelta, 0.0001 for lion.",
        choices=(AUTO,),
        part="optimizer",
    )
    momentum: float | None = option(
        None,
        "Momentum (sgd, rmsprop and muon only); by default 0.9 for sgd, 0.95 for muon, 0 for "
        "rmsprop.",
        part="optimizer",
    )
    nesterov: bool | None = option(
        None, "Use Nesterov momentum (sgd, and muon, where it is the default).", part="optimizer"
    )
    weight_decay: float | None = option(
        None, "Weight decay; by default 0.01 for adamw, otherwise 0.", part="optimizer"
    )
    decoupled_weight_decay: bool | None = option(
        None,
        "Subtract weight decay from the weights instead of adding it to the gradient; the default "
        "for adamw, lion and muon.",
        part="optimizer",
    )
    groups: str | Sequence[Any] | None = option(
        None,
        "Different settings for some parameters, selected by name patterns: text such as "
        '"*.bias: weight_decay=0; stem.*: freeze", or a list of dictionaries. Settings are '
        "lr_factor, freeze, freeze_until and freeze_after (epochs), freeze_statistics, "
        "optimizer, and the optimizer's arguments.",
    )
    schedule: str | Schedule = option(
        "constant", "Learning rate schedule.", choices=tuple(SCHEDULES), part="schedule"
    )
    warmup_steps: int = option(
        0, "Steps of linear learning rate warm-up.", least=0, part="schedule"
    )
    clip_norm: float | None = option(
        None, "Clip the gradient's Euclidean norm to this value.", above=0
    )
    ema_decay: float | None = option(
        None,
        "Evaluate and keep a moving average of the weights, with this decay per step (such as "
        "0.999).",
        least=0,
        below=1,
    )
    lookahead: str | int | Lookahead | None = option(
        None,
        "Lookahead: number of steps after which slow weights move part of the way to the trained "
        "ones, which continue from there; or text such as every=5,alpha=0.5. The slow weights are "
        "evaluated and kept.",
    )
    swa_start: int | None = option(
        None,
        "Evaluate and keep the mean of the weights at the end of each epoch, from this epoch on.",
        least=1,
    )
    augment: str | Augment | dict | None = option(
        None,
        "Augment training images at random in each epoch: digits, pictures, or settings such as "
        "shift=2,rotation=10,flip (see fastcnn.data.Augment), or none; in Python, for a model with "
        "several inputs, a dictionary of these by input name.",
    )
    validation: float | object | None = option(
        None,
        "Share of the training samples held out for validation, or in Python the samples; by "
        "default 0.1 if early stopping or reduce_on_plateau needs it, otherwise 0.",
        least=0,
        below=1,
    )
    sampling: str = option(
        "shuffled",
        "Each sample once per epoch, in random order (shuffled), or all classes equally often, "
        "with the same number of samples in total (balanced).",
        choices=("shuffled", "balanced"),
    )
    steps_per_epoch: int | None = option(
        None, "Steps per epoch; by default one pass over all samples.", least=1
    )
    max_steps: int | None = option(
        None,
        "End the last epoch early, after this many steps in total: 9.9 epochs of 48 steps are 10 "
        "epochs and 476 steps.",
        least=1,
    )
    early_stopping: int | None = option(
        None,
        "Stop after this many epochs without a lower validation loss, and keep the best weights; "
        "none trains all epochs.",
        least=1,
    )
    metrics: str | list | tuple | dict | Metric | Callable | None = option(
        None,
        "Additional metrics, computed on validation and test data after each epoch, such as "
        "f1,top3: top2, top3 ..., precision, recall, f1, iou, auc, mae, rmse, r2; in Python also "
        "functions of outputs and targets, and a dictionary of these for several outputs.",
    )
    monitor: str = option(
        "validation_loss",
        "Value monitored by early stopping, reduce_on_plateau and the choice of the best "
        "checkpoint, such as validation_accuracy or, with metrics=f1, validation_f1.",
    )
    reduce_on_plateau: int | None = option(
        None,
        "Divide the learning rate by 10 after more than this many epochs without a lower "
        "validation loss.",
        least=0,
    )
    seed: int = option(
        0, "Seed of the initial weights, the order of samples and dropout.", least=0, most=None
    )
    backend: str | None = option(
        None, "reference (slow loops), im2col or lanes (the default).", choices=BACKENDS
    )
    threads: int | None = option(
        None, "Threads; by default all cores.", least=1, below=1025, part=""
    )
    average_every: int = option(
        1,
        "With several MPI processes: number of steps after which the weights are averaged, instead "
        "of the gradients in every step.",
        least=1,
    )
    ordered_reduction: bool = option(
        False, "Make results bitwise identical on any number of MPI processes; slower."
    )
    sync_batch_norm: bool = option(
        True,
        "With several MPI processes: batch normalisation uses the statistics of the whole batch, "
        "not of each process's share.",
    )
    diagnose: bool = option(
        True, "Detect common training problems, such as dead units or overfitting.", part=""
    )

    def __post_init__(self) -> None:
        hints, switches = typing.get_type_hints(type(self)), declarations(TrainingOptions)
        for name, declared in declarations(type(self)).items():
            value = getattr(self, name)
            if isinstance(value, (np.generic, np.ndarray)):
                object.__setattr__(self, name, value := plain(value))
            # Not an option of a subclass: no model is called none.
            is_off = isinstance(value, str) and value == NONE and not declared.choices
            if is_off and name in switches and NoneType in typing.get_args(hints[name]):
                object.__setattr__(self, name, value := None)
            check_value(name, value, hints[name], declared)
        self.make_loss(), self.make_optimizer(), self.make_schedule(), self.make_augment()
        groups = self.make_groups()
        self._check_averages()
        for group in groups:
            if group.freeze_after is not None and group.freeze_after >= self.epochs:
                raise ConfigurationError(
                    f"group {group.match!r}: freeze_after={group.freeze_after} has no effect "
                    f"within {counted(self.epochs, 'epoch')}"
                )
            if group.freeze_until is not None and group.freeze_until >= self.epochs:
                raise ConfigurationError(
                    f"group {group.match!r}: freeze_until={group.freeze_until}: nothing would be "
                    f"trained within {counted(self.epochs, 'epoch')}; use freeze for that"
                )
        given, decays = self.decoupled_weight_decay, [self.make_optimizer()]
        for group in groups:
            decays.append(group.changed(decays[0]))
            given = group.arguments.get("decoupled_weight_decay", given)
        if given is not None and not any(getattr(each, "weight_decay", None) for each in decays):
            raise ConfigurationError(
                f"decoupled_weight_decay={given} has no effect without weight_decay"
            )
        larger_is_better(self.monitor, self.make_metrics())
        # The best epoch is at the earliest the first, and a change after the last one has no
        # effect.
        if self.reduce_on_plateau is not None and self.epochs < self.reduce_on_plateau + 3:
            raise ConfigurationError(
                f"reduce_on_plateau={self.reduce_on_plateau} has no effect within "
                f"{counted(self.epochs, 'epoch')}: it needs at least {self.reduce_on_plateau + 3}"
            )

    def _check_averages(self) -> None:
        if self.lookahead is not None:
            Lookahead.of(self.lookahead)
        if self.swa_start is not None and self.swa_start > self.epochs:
            raise ConfigurationError(
                f"swa_start={self.swa_start} has no effect within {counted(self.epochs, 'epoch')}"
            )
        averages = ("ema_decay", "lookahead", "swa_start")
        given = [name for name in averages if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigurationError(f"{' and '.join(given)} exclude each other")
        if self.lookahead is not None and self.average_every > 1:
            raise ConfigurationError(
                "lookahead and average_every exclude each other: both move weights between steps"
            )

    @property
    def step_size(self) -> int:
        """Samples per step."""
        return self.batch_size * self.accumulate

    def total_steps(self, per_epoch: int) -> int:
        """Total number of training steps, with ``per_epoch`` steps in each epoch.

        Raises ConfigurationError if ``max_steps`` does not end within the last epoch, or if the
        slow weights of Lookahead, which are the ones kept, would never move.
        """
        total = self.epochs * per_epoch
        if self.max_steps is not None:
            if per_epoch == 1:
                raise ConfigurationError(
                    f"max_steps={self.max_steps} has no effect with one step per epoch: set epochs"
                )
            if not total - per_epoch < self.max_steps < total:
                raise ConfigurationError(
                    f"max_steps={self.max_steps} must end within the last epoch, between "
                    f"{total - per_epoch + 1} and {total - 1}: epochs={self.epochs}, each of "
                    f"{per_epoch} steps"
                )
            total = self.max_steps
        every = 0 if self.lookahead is None else Lookahead.of(self.lookahead).every
        if every > total > 0:
            raise ConfigurationError(
                f"lookahead: every={every} has no effect within {total:,} "
                f"step{'' if total == 1 else 's'}: the slow weights, which are kept, would never "
                "move"
            )
        return total

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Make options from a mapping of names to values.

        Raises ConfigurationError if a name is not an option.
        """
        known = [each.name for each in fields(cls)]
        unknown = [name for name in settings if name not in known]
        if unknown:
            raise ConfigurationError(
                f"no option named {', '.join(unknown)}: there are {', '.join(known)}"
            )
        return cls(**settings)

    def make_loss(self) -> Loss:
        """The loss."""
        return losses.as_loss(self.loss, **self._arguments("loss"))

    def make_optimizer(self) -> Optimizer:
        """The optimiser; with its default learning rate until ``lr="auto"`` has found one."""
        arguments = self._arguments("optimizer")
        if arguments["lr"] == AUTO:
            if not isinstance(self.optimizer, str):
                raise ConfigurationError(
                    "lr='auto' has no effect with an optimizer that is given as an object"
                )
            arguments["lr"] = None
        return as_optimizer(self.optimizer, **arguments)

    def make_groups(self) -> tuple[ParameterGroup, ...]:
        """The parameter groups."""
        return as_groups(self.groups)

    def make_assignment(self) -> Assignment:
        """The optimiser with its parameter groups."""
        return Assignment(self.make_optimizer(), self.make_groups())

    def make_schedule(self) -> Schedule:
        """The schedule of the learning rate."""
        return as_schedule(self.schedule, **self._arguments("schedule"))

    def make_augment(self) -> Augment | dict[str, Augment] | None:
        """The augmentation of the training images, or that of each input by name."""
        if isinstance(self.augment, dict) and self.augment:
            return {name: _augment(value) for name, value in self.augment.items()}
        return _augment(self.augment)

    def make_metrics(self) -> tuple[Metric, ...]:
        """The metrics that are computed after each epoch."""
        return as_metrics(self.metrics)

    def monitors(self) -> list[Callback]:
        """The callbacks that the options request."""
        made: list[Callback] = []
        if self.reduce_on_plateau is not None:
            made.append(ReduceLROnPlateau(self.monitor, patience=self.reduce_on_plateau))
        if self.early_stopping is not None:
            made.append(EarlyStopping(self.monitor, patience=self.early_stopping))
        return made

    def training(self) -> dict[str, Any]:
        """The options of :class:`TrainingOptions` by name, as keyword arguments of ``fit``."""
        return {each.name: getattr(self, each.name) for each in fields(TrainingOptions)}

    def changes(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        return {
            each.name: value
            for each in fields(self)
            if (value := getattr(self, each.name)) != each.default
        }

    def config(self) -> dict[str, Any]:
        """The options in JSON types, as recorded in a run's config."""
        augment = self.make_augment()
        lookahead = None if self.lookahead is None else Lookahead.of(self.lookahead)
        recorded = {
            name: getattr(self, name)
            for name, declared in declarations(type(self)).items()
            if declared.part == "training"
        }
        if not is_share(self.validation):
            recorded["validation"] = None  # samples, whose checksum is recorded
        return {
            "loss": losses.NAMED.describe(self.make_loss()),
            "optimizer": optimizers.NAMED.describe(self.make_optimizer()),
            "schedule": schedules.NAMED.describe(self.make_schedule()),
            "training": recorded
            | {
                "augment": _augment_config(augment),
                "lookahead": None if lookahead is None else asdict(lookahead),
                "metrics": described(self.make_metrics()),
                "groups": [group.settings() for group in self.make_groups()] or None,
            },
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **changes: Any) -> Self:
        """The options a run was trained with; ``changes`` replace some of them.

        Raises ConfigurationError if the config was written by another version, or if the loss,
        optimiser or schedule is not one of this package.
        """
        recorded = dict(config["training"])
        if recorded.get("augment") is not None:
            own = recorded["augment"]
            recorded["augment"] = (
                {name: Augment(**each) for name, each in own["inputs"].items()}
                if "inputs" in own
                else Augment(**own)
            )
        if recorded.get("lookahead") is not None:
            recorded["lookahead"] = Lookahead(**recorded["lookahead"])
        return cls.of(
            {
                **recorded,
                "loss": losses.NAMED.from_description(config["loss"]),
                "optimizer": optimizers.NAMED.from_description(config["optimizer"]),
                "schedule": schedules.NAMED.from_description(config["schedule"]),
                **changes,
            }
        )

    def _arguments(self, part: str) -> dict[str, Any]:
        """The options that are arguments of the loss, the optimiser or the schedule."""
        return {
            name: getattr(self, name)
            for name, declared in declarations(type(self)).items()
            if declared.part == part and name != part
        }


def _augment(value: Any) -> Any:
    made = Augment.parse(value) if isinstance(value, str) else value
    if made in ({}, Augment()):
        raise ConfigurationError(f"augment={value!r} changes nothing: leave it out")
    return made


def _augment_config(augment: Any) -> dict[str, Any] | None:
    if isinstance(augment, dict):
        return {"inputs": {name: asdict(each) for name, each in augment.items()}}
    return None if augment is None else asdict(augment)


def is_share(validation: Any) -> bool:
    """Whether the option ``validation`` is a share to hold out, rather than the samples."""
    return isinstance(validation, (int, float, np.integer, np.floating))
