"""Sweeps: the trials, their results, and that a failing trial does not end them."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.analysis.sweeps import sweep_figure
from fastcnn.cli.sweep import describe
from fastcnn.data.split import draw_validation
from fastcnn.errors import ConfigurationError
from fastcnn.training.recipe import Recipe
from fastcnn.training.search import Span, TreeParzen
from fastcnn.training.sweeps import Trial, best_settings, draw, grid, measuring, rank, sweep


@pytest.fixture(scope="module")
def digits() -> tuple[fastcnn.Dataset, fastcnn.Dataset]:
    return fastcnn.data.digits_dataset(300, 100, classes=(0, 1, 2), seed=1)


def test_a_grid_has_every_combination() -> None:
    found = grid({"lr": [0.1, 0.2], "seed": [0, 1, 2]})
    assert len(found) == 6
    assert found[1] == {"lr": 0.1, "seed": 1}


def test_random_search_draws_from_values_and_ranges() -> None:
    space = {"lr": Span(1e-4, 1e-1, log=True), "batch_size": Span(8, 64, whole=True), "seed": [3]}
    found = draw(space, 400, seed=0)
    assert found == draw(space, 400, seed=0) != draw(space, 400, seed=1)
    rates = np.array([one["lr"] for one in found])
    assert 1e-4 <= rates.min() < 2e-4
    assert np.log10(rates).mean() == pytest.approx(-2.5, abs=0.1)
    sizes = [one["batch_size"] for one in found]
    assert min(sizes) == 8
    assert max(sizes) == 64
    assert all(isinstance(size, int) for size in sizes)


def test_no_combination_of_values_is_drawn_twice() -> None:
    space = {"lr": [0.1, 0.2, 0.3], "momentum": [0.5, 0.9]}
    found = draw(space, 6, seed=0)
    assert sorted(map(str, found)) == sorted(map(str, grid(space)))
    assert len(set(map(str, draw(space, 3, seed=1)))) == 3
    found = draw({"lr": [0.1, 0.2, 0.2], "seed": [3]}, 2, seed=0)
    assert {one["lr"] for one in found} == {0.1, 0.2}


def test_workers_do_not_change_results(digits: Any) -> None:
    settings = grid({"lr": [0.0, 0.02, 0.05], "epochs": [2], "optimizer": ["sgd", "adam"]})
    alone = sorted(sweep(digits[0], settings, workers=1), key=lambda trial: trial.number)
    shared = sorted(sweep(digits[0], settings, workers=2), key=lambda trial: trial.number)
    for first, second in zip(alone, shared, strict=True):
        assert first.settings == second.settings
        assert first.status == second.status == "finished"
        for one, two in zip(first.epochs, second.epochs, strict=True):
            assert (one["train_loss"], one["validation_loss"]) == (
                two["train_loss"],
                two["validation_loss"],
            )
    ranked = rank(alone)
    assert ranked[-1].settings["lr"] == 0.0
    assert ranked[0].epochs[-1]["validation_accuracy"] == max(
        t.score("validation_accuracy") for t in alone
    )
    assert len(sweep_figure(ranked, ["lr", "optimizer"], "validation_accuracy").axes) == 2


def test_a_trial_is_a_training_run(digits: Any) -> None:
    trial = next(iter(sweep(digits[0], [{"epochs": 2, "lr": 0.03}], workers=1)))
    model = fastcnn.models.report_cnn(seed=0)
    sgd = fastcnn.optim.SGD(lr=0.03, momentum=0.9)
    history = fastcnn.fit(model, digits[0], epochs=2, optimizer=sgd, threads=1, validation=0.1)
    assert trial.epochs[-1]["validation_loss"] == history.final["validation_loss"]


def largest(outputs: np.ndarray, targets: np.ndarray) -> float:
    return float(outputs.max())


largest.larger_is_better = False  # type: ignore[attr-defined]


def test_ranking_by_a_metric(digits: Any) -> None:
    settings = grid({"lr": [0.0, 0.02, 0.05], "epochs": [1]})
    for name in ("f1", "validation_f1"):
        base, metric = measuring(Recipe(), name)
        assert (base.metrics, metric) == ("f1", "validation_f1")
    base = dataclasses.replace(base, metrics=["f1", largest])
    trials = list(sweep(digits[0], settings, base=base, workers=2))
    for metric, best in (("validation_f1", max), ("validation_largest", min)):
        ranked = rank(trials, metric)
        values = [trial.epochs[-1][metric] for trial in trials]
        assert ranked[0].epochs[-1][metric] == best(values)
        assert len(sweep_figure(ranked, ["lr"], metric).axes) == 1
    assert measuring(base, "validation_largest") == (base, "validation_largest")
    assert measuring(Recipe(metrics="iou"), "top2")[0].metrics == "iou,top2"
    assert measuring(base, "accuracy") == (base, "validation_accuracy")
    # Names stay names: their functions cannot always be sent to another process.
    assert measuring(base, "top2")[0].metrics == ["f1", largest, "top2"]
    assert measuring(Recipe(metrics=largest), "top2")[0].metrics == [largest, "top2"]
    for name in ("f2", "f1,iou", " f1", "recall,"):
        with pytest.raises(ConfigurationError, match="metric must be one of validation_accuracy"):
            measuring(base, name)
    with pytest.raises(ConfigurationError, match="metric must be one of validation_accuracy"):
        rank(trials, "validation_iou")


def test_values_have_no_accuracy_to_rank_by(digits: Any) -> None:
    epoch = {"validation_accuracy": None, "validation_loss": 0.1, "seconds": 0.1}
    trials = [Trial(1, {"lr": 0.1}, Recipe(), [epoch], "finished")]
    with pytest.raises(ConfigurationError, match="targets are not classes"):
        rank(trials)
    assert rank(trials, "validation_loss") == trials
    assert len(sweep_figure(trials, ["lr"], "validation_accuracy").axes) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_does_not_stop_the_others(workers: int, digits: Any) -> None:
    settings = [{"lr": 1e38, "epochs": 1}, {"lr": 0.02, "epochs": 1}]
    ranked = rank(list(sweep(digits[0], settings, workers=workers)))
    assert [trial.status for trial in ranked] == ["finished", "failed"]
    assert ranked[1].error is not None
    assert "diverged" in ranked[1].error


def test_ranking_by_loss_and_ties() -> None:
    def trial(number: int, accuracy: float, loss: float) -> Trial:
        epoch = {"validation_accuracy": accuracy, "validation_loss": loss, "seconds": 0.1}
        return Trial(number, {}, Recipe(), [epoch], "finished")

    trials = [trial(1, 0.9, 0.3), trial(2, 0.9, 0.2), trial(3, 0.8, 0.1), Trial(4, {}, Recipe())]
    assert [one.number for one in rank(trials)] == [2, 1, 3, 4]
    assert [one.number for one in rank(trials, "validation_loss")] == [3, 2, 1, 4]


def test_a_training_that_stops_early_is_ranked_by_the_epoch_it_keeps() -> None:
    epochs = [
        {"seconds": place, "validation_accuracy": 1 - loss, "validation_loss": loss}
        for place, loss in enumerate((0.3, 0.1, 0.1, 0.4))
    ]
    stopped = Trial(1, {}, Recipe(early_stopping=2), epochs, "finished")
    assert stopped.kept == epochs[1]
    other = Trial(2, {}, Recipe(), [*epochs[2:], epochs[0]], "finished")
    assert rank([other, stopped]) == [stopped, other]
    assert describe(stopped, "validation_loss").startswith("  validation_loss 0.1000")


def test_the_best_settings_are_the_first_of_the_ranking() -> None:
    def trial(number: int, loss: float) -> Trial:
        epoch = {"validation_accuracy": 0.9, "validation_loss": loss, "seconds": 0.1}
        return Trial(number, {"lr": number}, Recipe(), [epoch], "finished")

    trials = [trial(1, 0.3), trial(2, 0.2), trial(3, 0.25)]
    assert best_settings(trials) == rank(trials)[:1] == trials[1:2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Span(1, 1), "low < high"),
        (lambda: Span(0, 1, log=True), "low > 0"),
        (lambda: grid({"lr": Span(0, 1)}), "ranges need a number of random trials"),
        (lambda: Span("a", "b"), "a range: low must be a finite number, got 'a'"),  # type: ignore[arg-type]
        (lambda: Span(0, np.inf), "a range: high must be a finite number"),
        (lambda: Span(1.5, 2.5, whole=True), "needs whole ends, got 1.5..2.5"),
        (lambda: grid({"lr": []}), "lr: needs a list of values, or a range, got"),
        (lambda: grid({"lr": [1, 2, 1]}), "lr: a grid needs different values, got 1 twice"),
        (lambda: grid({"lr": [None, None]}), "lr: a grid needs different values, got none twice"),
        (lambda: draw({"lr": []}, 3), "lr: needs a list of values"),
        (lambda: grid({"lr": "0.1"}), "lr: needs a list of values, or a range, got '0.1'"),
        (lambda: draw({"lr": 0.1}, 3), "lr: needs a list of values, or a range, got 0.1"),  # type: ignore[dict-item]
        (lambda: draw({"lr": [1]}, 2.5), "trials must be a positive integer, got 2.5"),  # type: ignore[arg-type]
        (lambda: draw({"lr": [1]}, 0), "trials must be"),
        (lambda: draw({"lr": [1, 2, 2], "seed": [3]}, 3), "3 trials cannot differ: there are 2"),
        (lambda: rank([], "accuracy"), "metric must be one of"),
    ],
)
def test_bad_spaces(call: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        call()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.1}, "no option named learning_rate: there are epochs, "),
        ({"lr": -1.0}, "lr must be at least"),
        ({"model": "resnet"}, "model must be one of"),
        ({"schedule": "linear"}, "schedule must be one of"),
        ({"threads": 2}, "threads has no effect in a sweep: each trial has one thread"),
        ({"diagnose": False}, "diagnose has no effect in a sweep"),
        ({"metrics": "f1"}, "metrics has no effect in a sweep: all trials are compared by"),
        ({"average_every": 2}, "average_every has no effect in a sweep"),
        ({"validation": 0.2}, "validation has no effect in a sweep: all trials are compared by"),
        ({"momentum": 0.5, "optimizer": "adam"}, "momentum has no effect with the optimizer adam"),
        ({"activation": "tanh", "model": "resnet8"}, "activation has no effect with the model"),
    ],
)
def test_bad_settings_are_found_before_anything_runs(
    settings: dict[str, Any], message: str, digits: Any
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        sweep(digits[0], [{"epochs": 1}, settings])


def test_all_trainings_are_ranked_by_the_same_held_out_samples(digits: Any) -> None:
    """Whatever their seeds are; the test data are only used at the end."""
    train, test = digits
    base = Recipe(epochs=1, validation=0.25)
    trials = list(sweep(train, grid({"seed": [0, 1]}), test=test, base=base, workers=1))
    rows, held = draw_validation(train.labels, 0.25)
    for trial in trials:
        _, history = Recipe(epochs=1, seed=trial.settings["seed"]).run(
            train.subset(rows), test, validation=train.subset(held), threads=1
        )
        for part in ("validation", "test"):
            assert trial.epochs[-1][f"{part}_loss"] == history.final[f"{part}_loss"]
    with pytest.raises(ConfigurationError, match="metric must be one of validation_accuracy"):
        rank(trials, "test_accuracy")
    own = dataclasses.replace(train.subset(rows), validation=train.subset(held))
    (trial,) = sweep(own, [{"epochs": 1}], workers=1)
    assert trial.epochs[-1]["validation_loss"] == trials[0].epochs[-1]["validation_loss"]


def test_a_backend_is_given_once(digits: Any) -> None:
    with pytest.raises(ConfigurationError, match="backend is given twice"):
        sweep(digits[0], [{"epochs": 1, "backend": "im2col"}], backend="lanes")
    (trial,) = sweep(digits[0], [{"epochs": 1, "backend": "im2col"}], workers=1)
    assert trial.status == "finished"


def test_a_recipe_says_what_it_changes() -> None:
    recipe = Recipe.of({"lr": 0.1, "optimizer": "adam", "epochs": 5})
    assert recipe.changes() == {"lr": 0.1, "optimizer": "adam"}


def test_a_search_learns() -> None:
    """Most trials after the random ones are close to the best learning rates."""
    pytest.importorskip("optuna")
    search = TreeParzen({"lr": Span(1e-5, 1.0, log=True), "kind": ["a", "b"]}, 60, seed=1)
    asked = []
    for number in range(len(search)):
        settings = search.ask()
        asked.append(settings)
        score = -abs(np.log10(settings["lr"]) + 2.0) - (settings["kind"] == "b")
        search.tell(number, -np.inf if number == 3 else score)
    late = [one for one in asked[30:] if 1e-3 < one["lr"] < 1e-1 and one["kind"] == "a"]
    assert len(late) > 12  # six by chance


@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_is_told_of_its_trials(workers: int) -> None:
    pytest.importorskip("optuna")
    train, _ = fastcnn.data.digits_dataset(120, 30, classes=(0, 1, 2))
    search = TreeParzen({"lr": Span(1e-3, 0.1, log=True), "batch_size": [16, 32]}, 4)
    trials = list(sweep(train, search, base=Recipe(epochs=1), workers=workers))
    assert sorted(trial.number for trial in trials) == [1, 2, 3, 4]
    assert all(trial.status == "finished" for trial in trials)
    told = [trial.value for trial in search._study.trials]
    by_number = {trial.number - 1: trial.score("validation_accuracy") for trial in trials}
    assert told == [by_number[number] for number in range(4)]


def test_a_search_refuses_wrong_settings_before_it_runs() -> None:
    pytest.importorskip("optuna")
    train, _ = fastcnn.data.digits_dataset(60, 30, classes=(0, 1, 2))
    with pytest.raises(ConfigurationError, match="learning"):
        sweep(train, TreeParzen({"learning": [0.1]}, 3))
    with pytest.raises(ConfigurationError, match="positive integer"):
        TreeParzen({"lr": [0.1]}, 0)


def test_errors_within_a_decade_have_plain_ticks() -> None:
    trials = [
        Trial(number, {"lr": lr}, Recipe(), [{"validation_accuracy": accuracy}], "finished")
        for number, (lr, accuracy) in enumerate([(0.01, 0.995), (0.03, 0.9933)])
    ]
    figure = sweep_figure(trials, ["lr"], "validation_accuracy")
    figure.canvas.draw()
    labels = figure.axes[0].get_yticklabels(which="both")
    texts = [label.get_text() for label in labels]
    assert "0.6" in texts
    assert not any("times" in text for text in texts)
