"""Parameter groups: different settings for parameters whose names match a pattern."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any

import numpy as np

from fastcnn.errors import ConfigurationError
from fastcnn.optim.base import Optimizer
from fastcnn.optim.optimizers import NAMED
from fastcnn.scalars import make_plain, plain

#: A parameter's offset in the vector, its shape, and whether its layer is trained.
Place = tuple[int, tuple[int, ...], bool]


@dataclass(frozen=True)
class ParameterGroup:
    """Settings for the parameters whose names match a pattern.

    If several groups match a parameter, their settings are combined; later groups take precedence.

    Attributes
    ----------
    match : str
        Pattern of names such as ``"conv1.weight"``, with ``*``, ``?`` and ``[...]``.
    lr_factor : float, optional
        Factor of the learning rate.
    freeze : bool
        Whether the parameters are frozen.
    freeze_until, freeze_after : int, optional
        Number of first epochs in which they are frozen, or of epochs after which they are.
    freeze_statistics : bool
        Whether batch normalisation layers use their running statistics without updating them.
    optimizer : str or Optimizer, optional
        Another optimiser. The schedule scales its learning rate by the same factor.
    arguments : mapping
        Arguments of the optimiser to override, such as ``weight_decay``.

    Raises
    ------
    ConfigurationError
        If a value is not accepted, or the group sets nothing.
    """

    match: str
    lr_factor: float | None = None
    freeze: bool = False
    freeze_until: int | None = None
    freeze_after: int | None = None
    freeze_statistics: bool = False
    optimizer: Any = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_plain(self)
        if not isinstance(self.match, str) or not self.match:
            raise ConfigurationError(
                f'groups: match must be a pattern such as "*.bias", got {self.match!r}'
            )
        factor = self.lr_factor
        good = factor is None or (isinstance(factor, Real) and not isinstance(factor, bool))
        if not good or not 0.0 <= float(factor or 0.0) < math.inf:
            self._refuse("lr_factor", "a finite number of at least 0", factor)
        for name in ("freeze", "freeze_statistics"):
            if not isinstance(getattr(self, name), bool):
                self._refuse(name, "True or False", getattr(self, name))
        for name in ("freeze_until", "freeze_after"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                self._refuse(name, "a number of epochs of at least 1", value)
        ways = [n for n in ("freeze", "freeze_until", "freeze_after") if getattr(self, n)]
        if len(ways) > 1:
            raise ConfigurationError(
                f"group {self.match!r}: {' and '.join(ways)} exclude each other"
            )
        if len(self.settings()) == 1:
            known = [each.name for each in fields(self)][1:-1]
            raise ConfigurationError(
                f"group {self.match!r} sets nothing: it accepts {', '.join(known)}, and arguments "
                "of the optimizer such as weight_decay"
            )
        unused = self.settings().keys() - {"match", "freeze", "freeze_statistics"}
        if self.freeze and unused:
            raise ConfigurationError(
                f"group {self.match!r}: {', '.join(sorted(unused))} has no effect with freeze"
            )
        if self.optimizer is not None:
            self._own_optimizer()

    @classmethod
    def of(cls, settings: Any) -> "ParameterGroup":
        """Make a group from a dictionary; other keys are arguments of the optimiser.

        Parameters
        ----------
        settings : ParameterGroup or mapping

        Raises
        ------
        ConfigurationError
            As for the class.
        """
        if isinstance(settings, ParameterGroup):
            return settings
        if not isinstance(settings, Mapping) or "match" not in settings:
            raise ConfigurationError(
                'groups must be dictionaries such as {"match": "*.bias", "weight_decay": 0}, got '
                f"{settings!r}"
            )
        own = {each.name for each in fields(cls)} - {"arguments"}
        given = {key: settings[key] for key in own & set(settings)}
        if isinstance(given.get("optimizer"), Mapping):
            given["optimizer"] = NAMED.from_description(given["optimizer"])
        rest = {
            key: plain(tuple(value) if isinstance(value, list) else value)
            for key, value in settings.items()
            if key not in own
        }
        return cls(**given, arguments=rest)

    @classmethod
    def parse(cls, text: str) -> tuple["ParameterGroup", ...]:
        """Parse groups from text like ``"*.bias: lr_factor=64 weight_decay=0; stem.*: freeze"``.

        Parameters
        ----------
        text : str

        Raises
        ------
        ConfigurationError
            If it cannot be parsed.
        """
        found = []
        for part in text.split(";"):
            match, colon, rest = part.partition(":")
            words = [word for word in re.split(r"[,\s]+", rest.strip()) if word]
            if not match.strip() or not colon or not words:
                raise ConfigurationError(
                    f'groups must be like "*.bias: weight_decay=0; stem.*: freeze", got {text!r}'
                )
            settings: dict[str, Any] = {"match": match.strip()}
            for word in words:
                name, equals, value = word.partition("=")
                if name in settings:
                    raise ConfigurationError(f"group {match.strip()!r}: {name} is given twice")
                if "/" in value:
                    settings[name] = tuple(map(value_of, value.split("/")))
                else:
                    settings[name] = value_of(value) if equals else True
            found.append(cls.of(settings))
        return tuple(found)

    def settings(self) -> dict[str, Any]:
        """The group's settings as a dictionary of JSON types."""
        made = {
            each.name: value
            for each in fields(self)
            if (value := getattr(self, each.name)) != each.default and each.name != "arguments"
        }
        if self.optimizer is not None and not isinstance(self.optimizer, str):
            made["optimizer"] = NAMED.describe(self.optimizer)
        return made | dict(self.arguments)

    def is_frozen(self, epoch: int) -> bool | None:
        """Whether parameters are frozen in an epoch; None if the group does not set it.

        Parameters
        ----------
        epoch : int
            Counted from 1.
        """
        if self.freeze_until is not None:
            return epoch <= self.freeze_until
        if self.freeze_after is not None:
            return epoch > self.freeze_after
        return True if self.freeze else None

    def _own_optimizer(self) -> Optimizer:
        return (
            NAMED.get(self.optimizer, **self.arguments)
            if isinstance(self.optimizer, str)
            else _changed(NAMED.get(self.optimizer), self.arguments, self.match)
        )

    def changed(self, optimizer: Optimizer) -> Optimizer:
        """The optimiser of this group's parameters, derived from ``optimizer``.

        Parameters
        ----------
        optimizer : Optimizer
        """
        if self.optimizer is not None:
            return self._own_optimizer()
        return _changed(optimizer, self.arguments, self.match)

    def _refuse(self, name: str, accepted: str, value: Any) -> None:
        raise ConfigurationError(f"group {self.match!r}: {name} must be {accepted}, got {value!r}")


def value_of(text: str) -> Any:
    """Parse text as a number, true, false or none; otherwise return the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _changed(optimizer: Optimizer, arguments: Mapping[str, Any], match: str) -> Optimizer:
    if not arguments:
        return optimizer
    known: list[str] = []
    if is_dataclass(optimizer):
        known = [each.name for each in fields(optimizer)]
    for name in arguments:
        if name not in known:
            raise ConfigurationError(
                f"group {match!r}: {name} has no effect with {type(optimizer).__name__}, which has "
                f"{', '.join(known) or 'no such arguments'}"
            )
    return replace(optimizer, **arguments)  # type: ignore[type-var]


def as_groups(groups: Any) -> tuple[ParameterGroup, ...]:
    """Make groups from a list of dictionaries or groups, or from text.

    Parameters
    ----------
    groups : list, str or None
        A list of :class:`ParameterGroup` or dictionaries as for :meth:`ParameterGroup.of`, or text
        as for :meth:`ParameterGroup.parse`.

    Raises
    ------
    ConfigurationError
        If they are neither.
    """
    if groups is None:
        return ()
    if isinstance(groups, str):
        return ParameterGroup.parse(groups)
    if isinstance(groups, Mapping) or not isinstance(groups, Sequence):
        raise ConfigurationError(
            f'groups must be a list such as [{{"match": "*.bias", "weight_decay": 0}}], got '
            f"{groups!r}"
        )
    return tuple(map(ParameterGroup.of, groups))


@dataclass(frozen=True)
class Part:
    """A contiguous range of parameters updated by one optimiser.

    Attributes
    ----------
    first, end : int
        Its first and last + 1 element in the vector of parameters.
    optimizer : Optimizer
        What updates them.
    factor : float
        Factor of the learning rate.
    began : int
        Number of steps before its first.
    shape : tuple of int, optional
        The parameter's shape, if the optimiser updates one matrix at a time.
    """

    first: int
    end: int
    optimizer: Optimizer
    factor: float = 1.0
    began: int = 0
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Assignment:
    """The assignment of parameters to optimisers.

    Parameters
    ----------
    optimizer : Optimizer
        Updates all parameters to which no group assigns another optimiser.
    groups : sequence of ParameterGroup
    """

    optimizer: Optimizer
    groups: tuple[ParameterGroup, ...] = ()

    @property
    def lr(self) -> float:
        """The base learning rate."""
        return self.optimizer.lr

    def check(self, places: Mapping[str, Place], statistics: Sequence[str]) -> None:
        """Refuse groups that do not match a model.

        Parameters
        ----------
        places : mapping of str to (offset, shape, trained)
            Places of parameters by name.
        statistics : sequence of str
            Names of running means.

        Raises
        ------
        ConfigurationError
            If a pattern matches nothing, or a setting has no effect.
        """
        for group in self.groups:
            settings = {key for key in group.settings() if key != "match"}
            matched = [name for name in places if fnmatchcase(name, group.match)]
            if settings != {"freeze_statistics"} and not matched:
                raise ConfigurationError(
                    f"group {group.match!r} matches no parameter: there are {', '.join(places)}"
                )
            if group.freeze_statistics and not self._of_statistics(group, statistics):
                found = f": there are {', '.join(statistics)}" if statistics else ""
                raise ConfigurationError(
                    f"group {group.match!r}: freeze_statistics matches no running statistics{found}"
                )
        for name, (_, shape, _) in places.items():
            self._optimizer(name, shape)

    def frozen_statistics(self, statistics: Sequence[str]) -> frozenset[str]:
        """The running means, out of ``statistics``, that training does not update.

        Parameters
        ----------
        statistics : sequence of str
        """
        return frozenset(
            name
            for group in self.groups
            if group.freeze_statistics
            for name in self._of_statistics(group, statistics)
        )

    @staticmethod
    def _of_statistics(group: ParameterGroup, statistics: Sequence[str]) -> list[str]:
        return [name for name in statistics if fnmatchcase(name, group.match)]

    def parts(
        self, places: Mapping[str, Place], epoch: int = 1, per_epoch: int = 0
    ) -> tuple[Part, ...]:
        """The parts trained in an epoch, in the order of the parameters.

        Parameters
        ----------
        places : mapping of str to (int, tuple of int, bool)
            First element in the parameter vector, shape, and whether it is trained, by name.
        epoch : int
            Counted from 1.
        per_epoch : int
            Steps per epoch.
        """
        made: list[Part] = []
        for name, (offset, shape, trained) in places.items():
            frozen, began = not trained, 0
            for group in self._of(name):
                said = group.is_frozen(epoch)
                if said is not None:
                    frozen = said or not trained
                    began = (group.freeze_until or 0) * per_epoch
            if frozen:
                continue
            optimizer, factor = self._optimizer(name, shape)
            whole = shape if getattr(optimizer, "of_matrices", False) else None
            part = Part(offset, offset + int(np.prod(shape)), optimizer, factor, began, whole)
            last = made[-1] if made else None
            if (
                last
                and whole is None
                and last.end == part.first
                and replace(last, first=part.first, end=part.end) == part
            ):
                made[-1] = replace(last, end=part.end)
            else:
                made.append(part)
        return tuple(made)

    def state_names(self, places: Mapping[str, Place]) -> tuple[str, ...]:
        """Names of the state arrays of all optimisers, each as long as the parameter vector.

        If parameters of several optimisers share an array, its name combines theirs.

        Parameters
        ----------
        places : mapping
            As for :meth:`parts`.
        """
        rows: list[dict[str, None]] = []
        for name, (_, shape, _) in places.items():
            for row, slot in enumerate(self._optimizer(name, shape)[0].slots):
                if row == len(rows):
                    rows.append({})
                rows[row][slot] = None
        if not places:
            return tuple(self.optimizer.slots)
        return tuple("/".join(names) for names in rows)

    def _of(self, name: str) -> list[ParameterGroup]:
        return [group for group in self.groups if fnmatchcase(name, group.match)]

    def _optimizer(self, name: str, shape: tuple[int, ...]) -> tuple[Optimizer, float]:
        """A parameter's optimiser and learning rate factor."""
        optimizer, factor = _of_shape(self.optimizer, shape), 1.0
        for group in self._of(name):
            optimizer = _of_shape(group.changed(optimizer), shape)
            if group.lr_factor is not None:
                factor = float(group.lr_factor)
        if optimizer.lr != self.lr:
            if self.lr == 0.0:
                raise ConfigurationError(
                    f"{name}: its learning rate {optimizer.lr} cannot be scaled from a base of 0"
                )
            factor *= optimizer.lr / self.lr
        return optimizer, factor


def _of_shape(optimizer: Optimizer, shape: tuple[int, ...]) -> Optimizer:
    """The optimiser itself, or its optimiser for one-dimensional parameters."""
    if getattr(optimizer, "of_matrices", False) and len(shape) < 2:
        return optimizer.others  # type: ignore[attr-defined]
    return optimizer
