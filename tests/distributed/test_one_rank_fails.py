"""A rank with bad data, arguments, folder or callbacks: all ranks raise, and none waits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.cli.lines import one_voice
from fastcnn.distributed import World
from fastcnn.errors import ConfigurationError, FastcnnError, NonFiniteError, RankError
from fastcnn.layers import Flatten, Linear, Sequential
from fastcnn.optim import SGD
from fastcnn.training import Callback, EarlyStopping
from tests.distributed.thread_world import on_ranks


def network() -> Sequential:
    return Sequential(Flatten(), Linear(16, 3, seed=0), input_shape=(1, 4, 4))


def samples(bad: bool = False) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).random((32, 1, 4, 4), np.float32)
    if bad:
        x[3, 0, 0, 0] = np.nan
    return x, np.arange(32) % 3


def outcomes(failing: int, bad: dict[str, Any], good: dict[str, Any] | None = None) -> list[Any]:
    """What each of three ranks raises if one of them is called with ``bad``."""

    def work(world: World) -> Any:
        options = {"epochs": 1, "train": samples(), "model": network(), **(good or {})}
        options |= bad if world.rank == failing else {}
        try:
            fastcnn.fit(**options, world=world)
        except FastcnnError as error:
            return [error]
        return [None]

    return [found[0] for found in on_ranks(3, work)]


BAD: dict[str, dict[str, Any]] = {
    "data": {"train": samples(bad=True)},
    "test data": {"test": samples(bad=True)},
    "shapes": {"train": (np.zeros((4, 1, 5, 5), np.float32), np.zeros(4, int))},
    "labels": {"train": (samples()[0], np.arange(32))},
    "epochs": {"epochs": -1},
    "batch size": {"batch_size": 0},
    "threads": {"threads": 0},
    "backend": {"backend": "nope"},
    "clipping": {"clip_norm": -1.0},
    "average": {"ema_decay": 2.0},
    "another rate": {"optimizer": SGD(lr=0.5)},
    "another seed": {"seed": 5},
}


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("what", BAD)
def test_arguments_and_data(what: str, failing: int) -> None:
    errors = outcomes(failing, BAD[what])
    assert all(isinstance(error, FastcnnError) for error in errors)
    if failing:
        assert all(isinstance(error, RankError) for error in errors)
        assert all(f"rank {failing} " in str(error) for error in errors)


def test_threads_of_some_ranks_alone() -> None:
    assert outcomes(1, {"threads": 1}) == [None, None, None]


@pytest.mark.parametrize("failing", [0, 1])
def test_settings_that_the_executor_refuses(failing: int) -> None:
    options = {"average_every": 4, "batch_size": 2}
    for error in outcomes(failing, options, options):
        assert isinstance(error, ConfigurationError)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = {"out": tmp_path / "file" / "run"}
    assert all(isinstance(error, FastcnnError) for error in outcomes(0, out, out))


@pytest.mark.parametrize("failing", [0, 1])
def test_a_file_that_is_missing_is_told_in_words(
    failing: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(world: World) -> None:
        path = tmp_path / ("missing" if world.rank == failing else "there")
        with pytest.raises(SystemExit), one_voice(world), world.guard(), world.preparing():
            path.read_bytes()

    (tmp_path / "there").touch()

    on_ranks(3, work)
    words = f"{tmp_path / 'missing'} cannot be read or written (No such file or directory)\n"
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert printed.endswith(words)
    assert printed.count("\n") == 1


class Fails(Callback):
    """Fails at its first call."""

    def on_train_begin(self, start: Any) -> None:
        raise ConfigurationError("this callback cannot begin")


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("callback", [Fails(), EarlyStopping("test_loss")])
def test_callbacks_that_cannot_begin(callback: Callback, failing: int) -> None:
    errors = outcomes(failing, {"callbacks": [callback]})
    assert all(isinstance(error, FastcnnError) for error in errors)


class SpoilOneRank(Callback):
    """Writes a NaN into one rank's model after its first steps."""

    def on_train_begin(self, start: Any) -> None:
        self.model = start.model

    def on_steps(self, steps: Any) -> None:
        self.model.parameter_vector[0] = np.nan


def test_weights_of_one_rank_that_are_not_finite() -> None:
    bad = {"callbacks": [SpoilOneRank()]}
    errors = outcomes(2, bad, {"batch_size": 8, "callbacks": []})
    assert all(isinstance(error, NonFiniteError) for error in errors)
