"""The single declaration of training options, and everything derived from it."""

import inspect
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import fastcnn
from fastcnn import losses
from fastcnn.cli.arguments import ModelName
from fastcnn.cli.declared import as_words, parameters, with_options
from fastcnn.data import Augment
from fastcnn.errors import ConfigurationError
from fastcnn.losses import CrossEntropyLoss, MSELoss
from fastcnn.models import MODELS
from fastcnn.optim import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    OneCycle,
    RMSprop,
    StepDecay,
    Warmup,
    as_optimizer,
    as_schedule,
)
from fastcnn.training import Callback, EarlyStopping
from fastcnn.training.declarations import (
    declarations,
    documentation_of,
    option,
    signature_of,
)
from fastcnn.training.fit_arguments import FitArguments
from fastcnn.training.options import TrainingOptions
from fastcnn.training.recipe import Recipe
from fastcnn.training.run import Run
from fastcnn.training.sweeps import grid, sweep

pytestmark = pytest.mark.usefixtures("no_pictures")

NAMES = [each.name for each in fields(TrainingOptions)]


def samples() -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).random((32, 1, 4, 4), np.float32), np.arange(32) % 3


def network() -> fastcnn.Sequential:
    return fastcnn.Sequential(
        fastcnn.Flatten(), fastcnn.Linear(16, 3, seed=0), input_shape=(1, 4, 4)
    )


# -- one declaration --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Extended(TrainingOptions):
    """With options that one line each adds."""

    alpha: float | None = option(None, "Smoothing of the mean square (rmsprop).", part="optimizer")
    gamma: float | None = option(None, "Factor of each drop (step).", part="schedule")
    patience: int = option(3, "Made up for this test.", least=1)


def test_an_option_is_added_in_one_place() -> None:
    """One field: the objects, the checks, the config, the command line and fit's signature."""
    chosen = Extended(optimizer="rmsprop", alpha=0.5, schedule="step", gamma=0.25, patience=7)
    assert chosen.make_optimizer() == RMSprop(lr=1e-3, alpha=0.5)
    assert chosen.make_schedule() == StepDecay(gamma=0.25)
    config = json.loads(json.dumps(chosen.config()))
    assert config["optimizer"]["alpha"] == 0.5
    assert config["schedule"] == {"name": "step", "every_epochs": 1, "gamma": 0.25}
    assert config["training"]["patience"] == 7
    assert Extended.from_config(config).config() == chosen.config()
    with pytest.raises(ConfigurationError, match="alpha has no effect with the optimizer adam: it "
                       "belongs to rmsprop"):  # fmt: skip
        Extended(optimizer="adam", alpha=0.5)
    with pytest.raises(ConfigurationError, match="gamma has no effect with the schedule cosine"):
        Extended(schedule="cosine", gamma=0.5)
    with pytest.raises(ConfigurationError, match="patience must be an integer of at least 1"):
        Extended.of({"patience": 0})
    assert "patience : int (default 3)\n    Made up" in documentation_of(Extended)

    def command(context: typer.Context, **options: Any) -> None:
        found.update(context.params)

    def function(model: int, **options: Any) -> None:
        raise NotImplementedError

    assert signature_of(function, Extended).parameters["patience"].default == 3
    found: dict[str, Any] = {}
    app = typer.Typer()
    app.command()(with_options(Extended)(command))
    assert CliRunner().invoke(app, ["--alpha", "0.9", "--patience", "4"]).exit_code == 0
    assert (found["alpha"], found["gamma"], found["patience"]) == (0.9, None, 4)
    assert found["epochs"] == 5


def test_fit_the_command_line_the_sweep_and_the_config_have_the_same_options(
    tmp_path: Path,
) -> None:
    signature = inspect.signature(fastcnn.fit)
    assert list(signature.parameters)[:3] == ["model", "train", "test"]
    assert set(NAMES) < set(signature.parameters)
    assert {each.name for each in parameters(Recipe)} == {
        *NAMES,
        "model",
        "activation",
        "init",
        "skip",
    }
    assert [each.name for each in parameters(Recipe)][:4] == ["model", "activation", "init", "skip"]
    assert set(NAMES) < {each.name for each in fields(Recipe)}
    fastcnn.fit(network(), samples(), epochs=1, out=tmp_path)
    config = Run.open(tmp_path).config
    recorded = {name for name, it in declarations(TrainingOptions).items() if it.part == "training"}
    assert set(config["training"]) == recorded
    for name, declared in declarations(TrainingOptions).items():
        assert declared.help.endswith("."), name
        assert f"\n{name} : " in str(fastcnn.fit.__doc__)
        assert signature.parameters[name].kind is inspect.Parameter.KEYWORD_ONLY


def test_help_and_annotations_are_whole() -> None:
    text = inspect.getdoc(fastcnn.fit)
    assert text is not None
    for each in fields(FitArguments):
        assert f"\n{each.name} : " in text
    assert inspect.signature(fastcnn.fit).parameters["lr"].annotation == float | str | None
    assert "**options" not in text
    assert {name.value for name in ModelName} == set(MODELS)


def test_a_recipe_as_words_of_the_command_line() -> None:
    recipe = Recipe(lr=0.1, nesterov=True, diagnose=False, model="lenet5", warmup_steps=3)
    words = as_words(recipe)
    assert words == "--lr 0.1 --nesterov --warmup-steps 3 --no-diagnose --model lenet5"
    assert as_words(Recipe(nesterov=False)) == ""
    assert as_words(Recipe(groups="*.bias: freeze")) == "--groups '*.bias: freeze'"


# -- names and objects ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by_name", "by_object"),
    [
        ({}, {"optimizer": SGD(lr=0.02, momentum=0.9)}),
        ({"lr": 0.1}, {"optimizer": SGD(lr=0.1, momentum=0.9), "loss": CrossEntropyLoss()}),
        ({"optimizer": "adam"}, {"optimizer": Adam(), "schedule": Constant()}),
        ({"optimizer": "adamw", "weight_decay": 0.1}, {"optimizer": AdamW(weight_decay=0.1)}),
        ({"optimizer": "rmsprop", "momentum": 0.5}, {"optimizer": RMSprop(1e-3, momentum=0.5)}),
        ({"loss": "mse"}, {"loss": MSELoss()}),
        ({"label_smoothing": 0.1}, {"loss": CrossEntropyLoss(0.1)}),
        ({"schedule": "cosine"}, {"schedule": Cosine()}),
        ({"schedule": "one-cycle", "warmup_steps": 2}, {"schedule": Warmup(2, OneCycle())}),
        ({"augment": "shift=1,flip"}, {"augment": Augment(shift=1, flip=True)}),
    ],
)
def test_names_are_objects(by_name: dict[str, Any], by_object: dict[str, Any]) -> None:
    results = []
    for chosen in (by_name, by_object):
        model = network()
        fastcnn.fit(model, samples(), epochs=2, batch_size=8, diagnose=False, **chosen)
        results.append(model.parameter_vector.copy())
    np.testing.assert_array_equal(*results)


def function(output: Any, target: Any) -> float:
    return 0.0


class NoBase:
    def on_epoch_end(self, epoch: Any, model: Any) -> None: ...


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "lamb"}, "optimizer must be one of sgd, adam, .*, muon.*, got 'lamb'"),
        ({"optimizer": Adam}, r"or an object such as SGD\(lr=0.1\), got <class"),
        ({"optimizer": 3}, "optimizer must be one of sgd, .* got 3"),
        ({"optimizer": None}, "optimizer must be one of sgd, .* got None"),
        ({"optimizer": Cosine()}, "optimizer must be one of sgd"),
        ({"loss": "hinge"}, "loss must be one of cross_entropy, .*, got 'hinge'"),
        ({"loss": function}, "loss: function must return a number and its gradient"),
        ({"loss": MSELoss}, r"or an object such as CrossEntropyLoss\(\), got <class"),
        (
            {"schedule": "linear"},
            "schedule must be one of constant, step, cosine, one-cycle, triangular, got",
        ),
        ({"schedule": SGD()}, r"or an object such as Cosine\(\), got SGD"),
        ({"schedule": lambda step: 0.1}, r"or an object such as Cosine\(\), got <function"),
        ({"augment": "spin"}, "augment"),
        (
            {"augment": function},
            "augment must be text or an Augment or a dictionary, got <function",
        ),
        ({"callbacks": EarlyStopping()}, "callbacks must be a list of Callback"),
        ({"callbacks": [NoBase()]}, r"callbacks\[0\] must be an object of a class derived from "),
        ({"callbacks": [EarlyStopping]}, r"callbacks\[0\] must be an object of a class derived"),
        ({"callbacks": [function]}, r"callbacks\[0\] must be an object of a class derived from "),
        ({"callbacks": None}, "callbacks must be a list of Callback"),
        ({"backend": "gpu"}, "backend must be one of reference, im2col, lanes, got 'gpu'"),
        ({"epochs": 1.5}, "epochs must be an integer of at least 0, got 1.5"),
        ({"epochs": "3"}, "epochs must be an integer of at least 0, got '3'"),
        ({"epochs": True}, "epochs must be an integer of at least 0, got True"),
        ({"epochs": 2**31}, "epochs must be an integer of at least 0 and at most 2,147,483,647"),
        ({"lr": "fast"}, "lr must be a finite number or auto, got 'fast'"),
        ({"lr": float("nan")}, "lr must be a finite number or auto, got nan"),
        ({"lr": -1.0}, "lr must be at least 0"),
        ({"nesterov": 1}, "nesterov must be True or False, got 1"),
        ({"diagnose": "no"}, "diagnose must be True or False, got 'no'"),
        ({"resume": "yes"}, "resume must be True or False, got 'yes'"),
        ({"accumulate": 0}, "accumulate must be an integer of at least 1, got 0"),
        ({"lookahead": 0}, "lookahead: every must be a number of steps of at least 1, got 0"),
        ({"lookahead": "often"}, "lookahead must be a number of steps, or text such as"),
        ({"lookahead": "alpha=2"}, "lookahead: alpha must be a number above 0 and up to 1"),
        ({"lookahead": "every=5,7"}, "lookahead: every is given twice: 'every=5,7'"),
        ({"lookahead": "steps=2"}, "lookahead has every, alpha, final_alpha, power, not 'steps'"),
        ({"lookahead": 2.5}, "lookahead must be text or an integer or a Lookahead, got 2.5"),
        ({"groups": 3}, "groups must be text or a list, got 3"),
        ({"ema_decay": 1.0}, "ema_decay must be a finite number of at least 0 and below 1, got"),
        ({"validation": 1.0}, "validation must be a finite number of at least 0 and below 1, got"),
        ({"validation": -0.1}, "validation must be a finite number of at least 0 and below 1"),
        ({"validation": "0.1"}, "validation must be a finite number .* got '0.1'"),
        ({"validation": True}, "validation must be a finite number .* got True"),
        ({"sampling": "random"}, "sampling must be one of shuffled, balanced, got 'random'"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be an integer of at least 1, got 0"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"world": 4}, r"world must come from fastcnn.distributed.join\(\), got 4"),
        ({"learning_rate": 0.1}, "no option named learning_rate: there are epochs, batch_size"),
        ({"resume": True}, "resume needs the run's folder"),
        ({"model": "report_cnn"}, "model must be a Model, such as"),
    ],
)
def test_what_is_not_accepted(change: dict[str, Any], message: str) -> None:
    model = network()
    before = model.parameter_vector.copy()
    arguments = {"model": model, "train": samples(), "epochs": 1, **change}
    with pytest.raises(ConfigurationError, match=message):
        fastcnn.fit(**arguments)
    np.testing.assert_array_equal(model.parameter_vector, before)


# -- options that do nothing ------------------------------------------------------------------

#: Each option that may have no effect: with which others, and the message.
IDLE: dict[str, list[tuple[dict[str, Any], str]]] = {
    "skip": [({"skip": "fc.*"}, "skip has no effect without init")],
    "activation": [
        ({"activation": "tanh", "model": "lenet5"}, "no effect with the model lenet5"),
        ({"activation": "relu", "model": "net.toml"}, "no effect with the model net"),
    ],
    "label_smoothing": [
        ({"label_smoothing": 0.0, "loss": "mse"}, "no effect with the loss mse"),
        ({"label_smoothing": 0.1, "loss": CrossEntropyLoss()}, "label_smoothing: no effect with"),
    ],
    "lr": [({"lr": 0.1, "optimizer": SGD()}, "lr: no effect with optimizer=SGD")],
    "momentum": [
        ({"momentum": 0.9, "optimizer": "adam"}, "momentum has no effect with the optimizer adam"),
        ({"momentum": 0.0, "optimizer": "adamw"}, "no effect with the optimizer adamw"),
        ({"momentum": 0.9, "optimizer": Adam()}, "momentum: no effect with optimizer=Adam"),
    ],
    "nesterov": [
        ({"nesterov": True, "optimizer": "adam"}, "nesterov has no effect with the optimizer adam"),
        ({"nesterov": True, "optimizer": "rmsprop"}, "nesterov .* it belongs to sgd, muon"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov needs a momentum above 0"),
    ],
    "lookahead": [
        ({"lookahead": 5, "ema_decay": 0.9}, "ema_decay and lookahead exclude each other"),
        ({"lookahead": "every=5,power=2"}, "power=2.0 has no effect without final_alpha"),
        ({"lookahead": 5, "average_every": 2}, "lookahead and average_every exclude each other"),
    ],
    "swa_start": [
        ({"swa_start": 6}, "swa_start=6 has no effect within 5 epochs"),
        ({"swa_start": 1, "ema_decay": 0.9}, "ema_decay and swa_start exclude each other"),
    ],
    "groups": [
        ({"groups": "*: freeze_after=5"}, "freeze_after=5 has no effect within 5 epochs"),
        ({"groups": "*: freeze_until=5"}, "freeze_until=5: nothing would be trained within 5"),
    ],
    "decoupled_weight_decay": [
        ({"decoupled_weight_decay": True}, "no effect without weight_decay"),
        ({"groups": "*: decoupled_weight_decay=true"}, "no effect without weight_decay"),
    ],
    "weight_decay": [({"weight_decay": 0.1, "optimizer": SGD()}, "weight_decay: no effect with")],
    "reduce_on_plateau": [
        ({"reduce_on_plateau": 0, "epochs": 1}, "no effect within 1 epoch: it needs at least 3"),
        ({"reduce_on_plateau": 3, "epochs": 5}, "no effect within 5 epochs: it needs at least 6"),
    ],
}  # fmt: skip
#: Options that always have an effect, or whose effect depends on what only fit knows.
ALWAYS = {
    "epochs", "batch_size", "loss", "optimizer", "schedule", "warmup_steps", "clip_norm",
    "ema_decay", "augment", "seed", "backend", "threads", "ordered_reduction",
    "diagnose", "model", "validation", "sampling", "accumulate", "init",
}  # fmt: skip
IN_FIT = {
    "metrics": ({"metrics": "f1", "validation": 0}, "no effect without validation or test data"),
    "monitor": ({"monitor": "train_loss"}, "monitor=train_loss has no effect without early_stop"),
    "early_stopping": ({"early_stopping": 2, "validation": 0}, "there are no validation data"),
    "steps_per_epoch": ({"steps_per_epoch": 9}, "32 samples make 1 step of batch_size=64"),
    "max_steps": ({"max_steps": 9, "batch_size": 16}, "max_steps=9 must end within the last epoch"),
    "average_every": ({"average_every": 4}, "average_every=4 has no effect on one process"),
    "sync_batch_norm": (
        {"sync_batch_norm": False},
        "sync_batch_norm=False has no effect on one process",
    ),
}


def test_every_option_is_in_one_of_the_tables() -> None:
    assert {each.name for each in fields(Recipe)} == {*IDLE, *ALWAYS, *IN_FIT}


@pytest.mark.parametrize(
    ("chosen", "message"), [case for cases in IDLE.values() for case in cases], ids=str
)
def test_options_that_do_nothing(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Recipe(**chosen)
    if set(chosen) <= set(NAMES):
        with pytest.raises(ConfigurationError, match=message):
            fastcnn.fit(network(), samples(), **chosen)


@pytest.mark.parametrize("name", IN_FIT)
def test_options_that_do_nothing_where_fit_knows(name: str) -> None:
    chosen, message = IN_FIT[name]
    with pytest.raises(ConfigurationError, match=message):
        fastcnn.fit(network(), samples(), epochs=1, **chosen)


def test_a_sweep_refuses_them_before_anything_runs() -> None:
    train, _ = fastcnn.data.digits_dataset(30, 10, classes=(0, 1, 2))
    settings = grid({"optimizer": ["sgd", "adam"], "momentum": [0.5]})
    with pytest.raises(ConfigurationError, match="momentum has no effect with the optimizer adam"):
        sweep(train, settings)


# -- what a run records -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"optimizer": "adam", "lr": 0.1, "schedule": "cosine", "warmup_steps": 4},
        {"optimizer": RMSprop(centered=True), "schedule": Warmup(3, OneCycle()), "loss": "mse"},
        {"optimizer": Adam(betas=(0.5, 0.6)), "augment": "digits", "early_stopping": 3},
    ],
)
def test_a_config_gives_the_options_back(chosen: dict[str, Any]) -> None:
    options = TrainingOptions(**chosen)
    config = json.loads(json.dumps(options.config()))
    again = TrainingOptions.from_config(config, threads=2)
    assert json.loads(json.dumps(again.config())) == config
    assert again.make_optimizer() == options.make_optimizer()
    assert again.make_schedule() == options.make_schedule()
    assert again.make_loss() == options.make_loss()
    assert again.make_augment() == options.make_augment()
    assert again.threads == 2


class OwnOptimizer:
    """An optimiser that this package does not know."""

    lr = 0.1
    slots = ()

    def update(self, parameters: Any, gradient: Any, slots: Any, lr: float, step: int) -> None:
        parameters -= lr * gradient

    def __repr__(self) -> str:
        return "OwnOptimizer()"


def test_an_own_optimiser_is_recorded_and_refused_by_name(tmp_path: Path) -> None:
    model = network()
    fastcnn.fit(model, samples(), epochs=1, optimizer=OwnOptimizer(), out=tmp_path)
    config = Run.open(tmp_path).config
    assert config["optimizer"] == {"name": "OwnOptimizer", "repr": "OwnOptimizer()"}
    with pytest.raises(ConfigurationError, match=r"optimizer .*OwnOptimizer.* is not one of sgd"):
        TrainingOptions.from_config(config)


def test_by_name_functions_alone() -> None:
    assert as_optimizer("sgd", lr=None) == SGD(lr=0.02, momentum=0.9)
    assert as_schedule("step", gamma=0.5) == StepDecay(gamma=0.5)
    assert losses.as_loss("cross_entropy", label_smoothing=0.5) == CrossEntropyLoss(0.5)


class Notes(Callback):
    def __init__(self) -> None:
        self.epochs = 0

    def on_epoch_end(self, epoch: Any, model: Any) -> None:
        self.epochs += 1


def test_progress_is_shown_where_it_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    notes = Notes()
    fastcnn.fit(network(), samples(), epochs=2, callbacks=[notes], verbose=True)
    printed = capsys.readouterr().out
    assert printed.count("epoch ") == 2
    assert notes.epochs == 2
    fastcnn.fit(network(), samples(), epochs=2)
    assert capsys.readouterr().out == ""


def test_none_is_a_word() -> None:
    """Needed to switch off what a recipe, or fastcnn train for pictures, has chosen."""
    off = ("augment", "early_stopping", "ema_decay", "groups", "lookahead", "metrics", "swa_start")
    assert TrainingOptions(**dict.fromkeys(off, "none")) == TrainingOptions()
    for name, value in (("lr", "none"), ("schedule", "none"), ("epochs", "none")):
        with pytest.raises(ConfigurationError, match=f"{name} must be .*'none'"):
            TrainingOptions(**{name: value})
    with pytest.raises(ConfigurationError, match=r"model must be .*'none'"):
        Recipe(model="none")


def test_bounds_are_as_short_as_they_can_be() -> None:
    for arguments, message in (
        ({"lr": -1.0}, "SGD: lr must be at least 0, got -1.0"),
        ({"momentum": 1.0}, "SGD: momentum must be at least 0 and below 1, got 1.0"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            TrainingOptions(**arguments)
