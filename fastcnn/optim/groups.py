"""Parameter groups: other settings for the parameters whose names match a pattern."""

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

#: Of a parameter: its first element in the vector, its shape, and whether its layer is trained.
Place = tuple[int, tuple[int, ...], bool]


@dataclass(frozen=True)
class ParameterGroup:
    """Settings of the parameters whose names match a pattern.

    Where several groups match a parameter, each adds what it sets, and a later one has the last
    word.

    Attributes
    ----------
    match : str
        Pattern of names such as ``"conv1.weight"``, with ``*``, ``?`` and ``[...]``.
    learning_rate_factor : float, optional
        What the learning rate is multiplied by.
    freeze : bool
        Whether the parameters stay as they are.
    freeze_until, freeze_after : int, optional
        Whether they do so in the first epochs, or after some epochs.
    freeze_statistics : bool
        Whether batch normalisations normalise by their running statistics and leave them as they
        are.
    optimizer : str or Optimizer, optional
        Another optimiser. Its rate follows the training's schedule in proportion.
    arguments : mapping
        Arguments of the optimiser that differ, such as ``weight_decay``.

    Raises
    ------
    ConfigurationError
        If a value is not accepted, or the group sets nothing.
    """

    match: str
    learning_rate_factor: float | None = None
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
        factor = self.learning_rate_factor
        good = factor is None or (isinstance(factor, Real) and not isinstance(factor, bool))
        if not good or not 0.0 <= float(factor or 0.0) < math.inf:
            self._refuse("learning_rate_factor", "a finite number of at least 0", factor)
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
                f"group {self.match!r} sets nothing: it takes {', '.join(known)}, and arguments of "
                "the optimizer such as weight_decay"
            )
        if self.optimizer is not None:
            self._own_optimizer()

    @classmethod
    def of(cls, settings: Any) -> "ParameterGroup":
        """A group from a dictionary; what is not a setting of groups is the optimiser's.

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
        """Groups from text such as ``"*.bias: learning_rate_factor=64 weight_decay=0; stem.*:
        freeze"``.

        Raises
        ------
        ConfigurationError
            If it cannot be read.
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
        """The group as a dictionary of what it sets, in what JSON knows."""
        made = {
            each.name: value
            for each in fields(self)
            if (value := getattr(self, each.name)) != each.default and each.name != "arguments"
        }
        if self.optimizer is not None and not isinstance(self.optimizer, str):
            made["optimizer"] = NAMED.describe(self.optimizer)
        return made | dict(self.arguments)

    def is_frozen(self, epoch: int) -> bool | None:
        """Whether parameters stay as they are in an epoch; None if the group does not say."""
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
        """The optimiser of this group's parameters, which before it is ``optimizer``."""
        if self.optimizer is not None:
            return self._own_optimizer()
        return _changed(optimizer, self.arguments, self.match)

    def _refuse(self, name: str, accepted: str, value: Any) -> None:
        raise ConfigurationError(f"group {self.match!r}: {name} must be {accepted}, got {value!r}")


def value_of(text: str) -> Any:
    """The number, true, false or none that a text is, or else the text."""
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
    """Groups from a list of dictionaries or of groups, or from text.

    Parameters
    ----------
    groups : list, str or None
        Of :class:`ParameterGroup` or dictionaries of its fields, or text that
        :meth:`ParameterGroup.parse` reads.

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
    """A run of the parameters that one optimiser updates.

    Attributes
    ----------
    first, end : int
        Its first and last + 1 element in the vector of parameters.
    factor : float
        The learning rate is multiplied by it.
    began : int
        Steps before its first one.
    shape : tuple of int, optional
        The parameter's, where the optimiser updates one matrix at a time.
    """

    first: int
    end: int
    optimizer: Optimizer
    factor: float = 1.0
    began: int = 0
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Assignment:
    """Which parameters which optimiser updates.

    Parameters
    ----------
    optimizer : Optimizer
        What updates all parameters that no group gives another.
    groups : sequence of ParameterGroup
    """

    optimizer: Optimizer
    groups: tuple[ParameterGroup, ...] = ()

    @property
    def lr(self) -> float:
        """The base learning rate."""
        return self.optimizer.lr

    def check(self, places: Mapping[str, Place], statistics: Sequence[str]) -> None:
        """Refuse groups that do not fit a model.

        Parameters
        ----------
        places : mapping of str to (offset, shape, trained)
            By names of parameters.
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
        """Those of some running means that training leaves as they are."""
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
        """The parts that are trained in an epoch, in the order of the parameters.

        Parameters
        ----------
        epoch : int
            Counted from 1.
        per_epoch : int
            Steps of an epoch.
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
        """Names of the arrays that carry the state of all optimisers, each as long as the vector.

        Where parameters of several optimisers share an array, its name has all of theirs.
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
        """A parameter's optimiser, and its factor of the learning rate."""
        optimizer, factor = _of_shape(self.optimizer, shape), 1.0
        for group in self._of(name):
            optimizer = _of_shape(group.changed(optimizer), shape)
            if group.learning_rate_factor is not None:
                factor = float(group.learning_rate_factor)
        if optimizer.lr != self.lr:
            if self.lr == 0.0:
                raise ConfigurationError(
                    f"{name}: its learning rate {optimizer.lr} cannot follow one of 0"
                )
            factor *= optimizer.lr / self.lr
        return optimizer, factor


def _of_shape(optimizer: Optimizer, shape: tuple[int, ...]) -> Optimizer:
    """The optimiser itself, or the one that it has for parameters of one dimension."""
    if getattr(optimizer, "of_matrices", False) and len(shape) < 2:
        return optimizer.others  # type: ignore[attr-defined]
    return optimizer
