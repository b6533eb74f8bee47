"""Many small training runs in parallel, one per core: grid and random search."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastcnn.arguments import as_count, as_flag
from fastcnn.cores import available_cores
from fastcnn.data.dataset import Dataset, as_dataset
from fastcnn.data.split import draw_validation
from fastcnn.errors import ConfigurationError, FastcnnError
from fastcnn.training.callbacks import Callback, Steps
from fastcnn.training.metrics import larger_is_better
from fastcnn.training.options import is_share
from fastcnn.training.pool import is_over, run_jobs
from fastcnn.training.recipe import Recipe, suited
from fastcnn.training.search import Space, Span, TreeParzen, check_space
from fastcnn.training.validation import SHARE

#: Options that are fixed for all trials of a sweep, with the reason.
FIXED = {
    "threads": "each trial has one thread",
    "diagnose": "its trials are not diagnosed",
    "average_every": "each trial has one process",
    "sync_batch_norm": "each trial has one process",
    "validation": "all trials are compared by the same samples, those of base.validation",
    "metrics": "all trials are compared by the same numbers, those of base.metrics or --metric",
}
#: Metrics by which trials can be ranked; test data are not used for selection.
METRICS = ("validation_accuracy", "validation_loss", "train_accuracy", "train_loss")


def grid(space: Space) -> list[dict[str, Any]]:
    """Every combination of the values.

    Parameters
    ----------
    space : mapping of str to sequence

    Raises
    ------
    ConfigurationError
        If a parameter has a range instead of values, the same value twice, or none.
    """
    check_space(space)
    for name, values in space.items():
        if isinstance(values, Span):
            raise ConfigurationError(
                f"{name}: a grid needs values, as in {name}=0.01,0.1; ranges need a number of "
                "random trials (--trials, trials=)"
            )
        words = ["none" if value is None else repr(value) for value in values]
        if repeated := next((word for word in words if words.count(word) > 1), None):
            raise ConfigurationError(f"{name}: a grid needs different values, got {repeated} twice")
    combinations = itertools.product(*space.values())  # type: ignore[arg-type]
    return [dict(zip(space, values, strict=True)) for values in combinations]


def draw(space: Space, trials: int, seed: int = 0) -> list[dict[str, Any]]:
    """Random settings: values are drawn with equal probability, ranges as they specify.

    Without ranges, no combination is drawn twice.

    Parameters
    ----------
    space : mapping of str to sequence or Span
    trials, seed : int

    Raises
    ------
    ConfigurationError
        If a parameter has neither a range nor values, or there are fewer combinations than trials.
    """
    check_space(space)
    trials = as_count("draw", "trials", trials)
    generator = np.random.default_rng(seed)
    lists = [values for values in space.values() if not isinstance(values, Span)]
    counts = [len(set(map(repr, values))) for values in lists]
    most = math.prod(counts) if len(lists) == len(space) else math.inf
    if trials > most:
        raise ConfigurationError(
            f"{trials} trials cannot differ: there are {most} combinations of values; leave out "
            "the number of trials to run all of them"
        )
    found: dict[str, dict[str, Any]] = {}
    while len(found) < trials:
        drawn = {
            name: values.draw(generator)
            if isinstance(values, Span)
            else values[int(generator.integers(len(values)))]
            for name, values in space.items()
        }
        # Ranges of a few whole numbers may give the same settings again.
        found[repr(drawn) if most < math.inf else str(len(found))] = drawn
    return list(found.values())


@dataclass
class Trial:
    """One training of a sweep.

    Attributes
    ----------
    number : int
        Counted from 1, in the order in which the settings were given.
    settings : dict
        Settings varied between trials; the others are in :attr:`recipe`.
    recipe : Recipe
    epochs : list of dict
        The epochs' records, as in :class:`~fastcnn.training.History`.
    status : str
        "finished", "failed" or "interrupted".
    error : str or None
        The error of a failed trial.
    """

    number: int
    settings: dict[str, Any]
    recipe: Recipe
    epochs: list[dict[str, Any]] = field(default_factory=list)
    status: str = "interrupted"
    error: str | None = None

    @property
    def kept(self) -> dict[str, Any] | None:
        """The record of the epoch whose weights a finished training keeps.

        It is the last one, or with early stopping the best.
        """
        if self.status != "finished" or not self.epochs:
            return None
        if self.recipe.early_stopping is None:
            return self.epochs[-1]
        return max(self.epochs, key=lambda epoch: self._signed(epoch, self.recipe.monitor))

    def score(self, metric: str) -> float:
        """The kept epoch's metric, signed so that larger is better; minus infinity without one.

        Parameters
        ----------
        metric : str
        """
        return -np.inf if self.kept is None else self._signed(self.kept, metric)

    def _signed(self, epoch: dict[str, Any], metric: str) -> float:
        value = epoch.get(metric)
        if value is None or np.isnan(value):
            return -np.inf
        larger = larger_is_better(metric, self.recipe.make_metrics())
        return float(value) if larger else -float(value)

    @property
    def seconds(self) -> float:
        """Seconds of training."""
        return float(sum(epoch["seconds"] for epoch in self.epochs))


def rank(trials: Sequence[Trial], metric: str = "validation_accuracy") -> list[Trial]:
    """Sort trials, best first; ties are broken by lower loss, then by order.

    Parameters
    ----------
    trials : sequence of Trial
    metric : str
        Loss or accuracy of training or validation, or a metric of the trials, such as
        ``validation_f1``.

    Raises
    ------
    ConfigurationError
        If the trials have no such metric.
    """
    for trial in trials:
        check_metric(metric, trial.recipe)
    if not trials:
        check_metric(metric, Recipe())
    is_none = [trial.kept[metric] is None for trial in trials if trial.kept is not None]
    if metric == "validation_accuracy" and is_none and all(is_none):
        raise ConfigurationError(
            "metric validation_accuracy: targets are not classes, or nothing is held out: rank by "
            "another, such as validation_loss"
        )
    loss = f"{metric.partition('_')[0]}_loss"
    return sorted(trials, key=lambda t: (-t.score(metric), -t.score(loss), t.number))


def _known(recipe: Recipe) -> tuple[str, ...]:
    """Metrics by which runs of a recipe can be ranked."""
    return (*METRICS, *(f"validation_{each.name}" for each in recipe.make_metrics()))


def check_metric(metric: str, recipe: Recipe) -> None:
    """Refuse a metric by which runs of a recipe cannot be ranked."""
    if metric not in _known(recipe):
        raise ConfigurationError(
            f"metric must be one of {', '.join(_known(recipe))}, got {metric!r}; others are "
            "named in the recipe's metrics"
        )


def measuring(recipe: Recipe, metric: str) -> tuple[Recipe, str]:
    """A recipe whose runs record a metric, and the metric's name in the records.

    The metric is as for :func:`rank`, or the name of a validation metric, such as ``f1``.
    """
    name = metric.removeprefix("validation_")
    full = f"validation_{name}"
    for known in (metric, full):
        if known in _known(recipe):
            return recipe, known
    given: Any = recipe.metrics
    try:
        if given is None or isinstance(given, str):
            given = ",".join(filter(None, (given, name)))
        else:
            given = [*(given if isinstance(given, (list, tuple)) else [given]), name]
        recipe = replace(recipe, metrics=given)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"metric must be one of {', '.join(METRICS)}, or a metric's name: {error}"
        ) from None
    check_metric(full, recipe)
    return recipe, full


def best_settings(trials: Sequence[Trial], metric: str = "validation_accuracy") -> list[Trial]:
    """The trials of the settings with the best mean over their seeds, best first.

    Ties are broken by the mean loss, as in :func:`rank`. The best of several seeds is best by
    chance and does not predict the next training.

    Parameters
    ----------
    trials : sequence of Trial
    metric : str
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        settings = {name: value for name, value in trial.settings.items() if name != "seed"}
        groups.setdefault(repr(settings), []).append(trial)
    loss = f"{metric.partition('_')[0]}_loss"

    def means(group: Sequence[Trial]) -> tuple[float, ...]:
        scores = ([trial.score(name) for trial in group] for name in (metric, loss))
        return tuple(sum(one) / len(group) for one in scores)

    return rank(max(groups.values(), key=means, default=[]), metric)


def sweep(
    train: Dataset,
    settings: Sequence[Mapping[str, Any]] | TreeParzen,
    *,
    test: Dataset | None = None,
    base: Recipe | None = None,
    workers: int | None = None,
    backend: str | None = None,
    suit: bool = False,
) -> Iterator[Trial]:
    """Train one network for each of ``settings``, several at a time; yield them as they finish.

    Results do not depend on the number of workers. A training that fails does not stop the others;
    one whose process dies is retried once. Workers are new processes: in a script, call this under
    ``if __name__ == "__main__":``.

    Parameters
    ----------
    train : Dataset
        A share of ``base.validation``, by default a tenth, is held out: the same samples in all
        trials, which are ranked by them.
    settings : sequence of dict, or TreeParzen
        From :func:`grid` or :func:`draw`: options of :class:`Recipe` by name. A search chooses them
        based on the results so far.
    test : Dataset, optional
        Evaluated after each epoch for the records only: :func:`rank` does not use it.
    base : Recipe, optional
        Options that ``settings`` do not set.
    workers : int, optional
        Trials at a time, each on one thread; by default one per core. With 1 they run in this
        process.
    backend : str, optional
    suit : bool
        Whether options that neither ``settings`` nor ``base`` give are chosen for pictures as
        ``fastcnn train`` chooses them.

    Yields
    ------
    Trial

    Raises
    ------
    ConfigurationError
        Before anything runs, if an option is unknown, a value is not accepted, or an option has no
        effect with the others.

    Examples
    --------
    >>> import fastcnn
    >>> from fastcnn.training import grid, rank, sweep
    >>> train, _ = fastcnn.data.digits_dataset(300, 100, classes=(0, 1, 2))
    >>> settings = grid({"lr": [0.0, 0.05], "epochs": [1]})
    >>> best = rank(list(sweep(train, settings, workers=1)))[0]
    >>> best.settings["lr"]
    0.05
    """
    for data in (train,) if test is None else (train, test):
        as_dataset("sweep", data)
    if not isinstance(settings, (Sequence, TreeParzen)) or isinstance(settings, str):
        raise ConfigurationError(
            f"settings must be a list of dictionaries, as grid() makes it, got {settings!r:.200}"
        )
    base = base or Recipe()
    share = SHARE if base.validation is None else base.validation
    base = replace(base, validation=None)
    suit = as_flag("sweep", "suit", suit)
    if workers is not None:
        workers = as_count("sweep", "workers", workers)

    def trial_of(number: int, chosen: Mapping[str, Any]) -> Trial:
        if not isinstance(chosen, Mapping) or not all(isinstance(key, str) for key in chosen):
            raise ConfigurationError(
                f"settings must be a list of dictionaries, as grid() makes it, got {chosen!r} in it"
            )
        given = {**base.changes(), **chosen}
        for name, reason in FIXED.items():
            if name in (chosen if name == "metrics" else given):
                raise ConfigurationError(f"{name} has no effect in a sweep: {reason}")
        if backend is not None and "backend" in given:
            raise ConfigurationError("backend is given twice: to the sweep and to its trials")
        recipe = Recipe.of(given)
        if suit and train.files:
            recipe = replace(recipe, **suited(train, replace(recipe, validation=share), given))
        recipe.make_model(train)
        if isinstance(settings, TreeParzen):
            check_metric(settings.metric, recipe)
        return Trial(number, dict(chosen), recipe)

    trials: Sequence[Trial]
    if isinstance(settings, TreeParzen):
        trials, search = _Asked(settings, trial_of), settings
    else:
        trials, search = list(itertools.starmap(trial_of, enumerate(settings, start=1))), None
    count = min(workers or available_cores(), len(trials))
    parts = (*_divided(train, share, base.seed), test)
    return _run(trials, parts, count, backend, search)


class _Asked(Sequence[Trial]):
    """Trials of a search, each requested when it begins."""

    def __init__(self, search: TreeParzen, make: Callable[[int, dict[str, Any]], Trial]) -> None:
        self._search, self._make = search, make
        self._made = [make(1, search.ask())]  # finds invalid settings before anything runs

    def __len__(self) -> int:
        return len(self._search)

    def __getitem__(self, index: Any) -> Any:
        if index >= len(self):
            raise IndexError(index)
        while len(self._made) <= index:
            self._made.append(self._make(len(self._made) + 1, self._search.ask()))
        return self._made[index]


#: Training, validation and test samples.
Parts = tuple[Dataset, Dataset | None, Dataset | None]


def _divided(train: Dataset, validation: Any, seed: int) -> tuple[Dataset, Dataset | None]:
    """Training samples, and validation samples for the ranking."""
    if not is_share(validation):
        return train, validation
    if train.validation is not None:
        return train, train.validation
    if validation == 0:
        return train, None
    rows, held = draw_validation(train.labels, float(validation), seed)
    return train.subset(rows), train.subset(held)


def _run(
    trials: Sequence[Trial],
    data: Parts,
    workers: int,
    backend: str | None,
    search: TreeParzen | None,
) -> Iterator[Trial]:
    if workers > 1:
        # The first training compiles missing kernels: once, not once in every worker.
        Recipe(model=trials[0].recipe.model, epochs=1).run(
            data[0].subset(slice(0, 64)),
            None,
            validation=0,
            **_of_workers(trials[0].recipe, backend),
        )
    for index, trained in run_jobs(_train, trials, (data, backend), workers=workers):
        trial = trained or trials[index]
        if trained is None:
            trial.status, trial.error = "failed", "its process ended unexpectedly, twice"
        if search is not None:
            search.tell(index, trial.score(search.metric))
        yield trial


def _of_workers(recipe: Recipe, backend: str | None) -> dict[str, Any]:
    """Options of one run among many that differ from those of a single run."""
    return {"backend": backend or recipe.backend, "threads": 1, "diagnose": False}


def _train(trial: Trial, data: Parts, backend: str | None) -> Trial:
    train, validation, test = data
    try:
        _, history = trial.recipe.run(
            train,
            test,
            validation=0 if validation is None else validation,
            callbacks=[_Follower(trial)],
            **_of_workers(trial.recipe, backend),
        )
        trial.status = history.status
    except FastcnnError as error:
        trial.status, trial.error = "failed", str(error)
    except _NotWanted:
        pass
    except Exception as error:  # such as too little memory
        trial.status, trial.error = "failed", f"{type(error).__name__}: {error}"
    return trial


class _NotWanted(Exception):
    """The sweep is over."""


class _Follower(Callback):
    """Records epochs as they end, even of a failed training, and stops it with the sweep."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def on_steps(self, steps: Steps) -> None:
        if is_over():
            raise _NotWanted

    def on_epoch_end(self, epoch: dict[str, Any], model: Any) -> None:
        self.trial.epochs.append(epoch)
