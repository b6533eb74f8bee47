"""Settings that are chosen by the results so far, for :func:`~fastcnn.training.sweep.sweep`."""

from typing import Any

import numpy as np

from fastcnn.arguments import as_count
from fastcnn.errors import ConfigurationError
from fastcnn.extras import require
from fastcnn.scalars import plain
from fastcnn.training.space import Space, Span, check_space


class TreeParzen:
    """The tree-structured Parzen estimator of optuna (extra ``optuna``).

    After some random trials it draws settings that resemble the better trials more than the others.
    With several workers, what is asked depends on which training ends first; with one it does not.

    Parameters
    ----------
    space : mapping of str to sequence or Span
        Values, or a range, of each option.
    trials : int
        How many trainings there are.
    metric : str
        What is made large, or small if it is a loss or an error; as for
        :func:`~fastcnn.training.sweep.rank`.
    seed : int

    Raises
    ------
    ConfigurationError
        If ``trials`` is not positive, or a value is not one that optuna takes.
    MissingExtraError
        If optuna is not installed.

    References
    ----------
    Bergstra, Bardenet, Bengio and Kegl, "Algorithms for hyper-parameter optimization", NIPS 2011;
    Akiba et al., arXiv:1907.10902.
    """

    def __init__(
        self,
        space: Space,
        trials: int,
        metric: str = "validation_accuracy",
        seed: int = 0,
    ) -> None:
        trials = as_count("TreeParzen", "trials", trials)
        check_space(space)
        optuna = require("optuna", "optuna")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.metric = metric
        self.trials = trials
        self._space = {name: plain(values) for name, values in space.items()}
        for name, values in self._space.items():
            if not isinstance(values, Span) and not all(_is_simple(value) for value in values):
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
        """The score of the trial asked as the ``number``-th, counted from 0; larger is better."""
        if np.isfinite(score):
            self._study.tell(self._asked[number], score)
        else:
            self._study.tell(self._asked[number], state=self._failed)


def _is_simple(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _suggest(trial: Any, name: str, values: Any) -> Any:
    if not isinstance(values, Span):
        return trial.suggest_categorical(name, list(values))
    if values.whole:
        return trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
    return float(f"{trial.suggest_float(name, values.low, values.high, log=values.log):.4g}")
