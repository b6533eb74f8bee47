"""Search spaces of sweeps, values or ranges of options, and searches guided by results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

import numpy as np

from fastcnn.arguments import as_count, as_number
from fastcnn.errors import ConfigurationError
from fastcnn.extras import require
from fastcnn.scalars import make_plain, plain

#: Types of values that optuna can choose from.
SIMPLE = (NoneType, bool, int, float, str)


@dataclass(frozen=True)
class Span:
    """A range from which a random search draws numbers.

    Attributes
    ----------
    low, high : float
    log : bool
        Draw uniformly on a logarithmic scale, as suits learning rates.
    whole : bool
        Draw integers, both ends included.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        make_plain(self)
        for name in ("low", "high"):
            as_number("a range", name, getattr(self, name))
        if not self.low < self.high or (self.log and self.low <= 0.0):
            raise ConfigurationError(
                f"a range needs low < high, and low > 0 if it is logarithmic: got {self}"
            )
        if self.whole and (self.low % 1 or self.high % 1):
            raise ConfigurationError(f"a range of whole numbers needs whole ends, got {self}")

    def __str__(self) -> str:
        return f"{'log:' if self.log else ''}{self.low:g}..{self.high:g}"

    def draw(self, generator: np.random.Generator) -> float | int:
        """One number.

        Parameters
        ----------
        generator : numpy.random.Generator
        """
        low, high = np.log([self.low, self.high]) if self.log else (self.low, self.high)
        if self.whole and not self.log:
            return int(generator.integers(int(self.low), int(self.high) + 1))
        value = generator.uniform(low, high)
        value = float(np.exp(value)) if self.log else float(value)
        return round(value) if self.whole else float(f"{value:.4g}")


Space = Mapping[str, Sequence[Any] | Span]


def check_space(space: Space) -> None:
    """Refuse parameters with neither a range nor at least one value."""
    for name, values in space.items():
        several = isinstance(values, (Sequence, np.ndarray)) and not isinstance(values, str)
        if not isinstance(values, Span) and not (several and len(values)):
            raise ConfigurationError(f"{name}: needs a list of values, or a range, got {values!r}")


class TreeParzen:
    """The tree-structured Parzen estimator of optuna (extra ``optuna``).

    After some random trials it draws settings that resemble the better trials more than the others.
    With several workers, its choices depend on the order in which trials finish; with one they
    do not.

    Parameters
    ----------
    space : mapping of str to sequence or Span
        Values, or a range, of each option.
    trials : int
        Number of trials.
    metric : str
        Metric to maximise, or to minimise if it is a loss or an error; as for
        :func:`~fastcnn.training.sweeps.rank`.
    seed : int

    Raises
    ------
    ConfigurationError
        If ``trials`` is not positive, or optuna does not support a value.
    MissingExtraError
        If optuna is not installed.

    References
    ----------
    Bergstra, Bardenet, Bengio and Kegl, "Algorithms for hyper-parameter optimization", NIPS 2011;
    Akiba et al., arXiv:1907.10902.
    """

    def __init__(
        self, space: Space, trials: int, metric: str = "validation_accuracy", seed: int = 0
    ) -> None:
        trials = as_count("TreeParzen", "trials", trials)
        check_space(space)
        optuna = require("optuna", "optuna")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.metric = metric
        self.trials = trials
        self._space = {name: plain(values) for name, values in space.items()}
        for name, values in self._space.items():
            if not isinstance(values, Span) and not all(isinstance(v, SIMPLE) for v in values):
                raise ConfigurationError(f"{name}: optuna chooses among numbers, words and None")
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        self._study = optuna.create_study(sampler=sampler, direction="maximize")
        self._failed = optuna.trial.TrialState.FAIL
        self._asked: list[Any] = []

    def __len__(self) -> int:
        return self.trials

    def ask(self) -> dict[str, Any]:
        """Settings of the next trial."""
        trial = self._study.ask()
        self._asked.append(trial)
        return {name: _suggest(trial, name, values) for name, values in self._space.items()}

    def tell(self, number: int, score: float) -> None:
        """Report the result of a trial.

        Parameters
        ----------
        number : int
            Counted from 0.
        score : float
            Larger is better.
        """
        if np.isfinite(score):
            self._study.tell(self._asked[number], score)
        else:
            self._study.tell(self._asked[number], state=self._failed)


def _suggest(trial: Any, name: str, values: Any) -> Any:
    if not isinstance(values, Span):
        return trial.suggest_categorical(name, list(values))
    if values.whole:
        return trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
    return float(f"{trial.suggest_float(name, values.low, values.high, log=values.log):.4g}")
