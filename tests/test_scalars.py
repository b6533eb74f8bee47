"""numpy scalars are accepted as Python's: none overflows, and all can be serialised."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import (
    AvgPool2d,
    Conv2d,
    CrossEntropyLoss,
    Dropout,
    Flatten,
    HuberLoss,
    LeakyReLU,
    Linear,
    Sequential,
    Upsample,
)
from fastcnn.data import Augment
from fastcnn.errors import ConfigurationError
from fastcnn.losses import BCEWithLogitsLoss, FocalLoss
from fastcnn.optim import SGD, Adam, Cosine, Lookahead, MultiStep, Muon, OneCycle, StepDecay, Warmup
from fastcnn.scalars import plain
from fastcnn.training import EarlyStopping, ReduceLROnPlateau
from fastcnn.training.options import TrainingOptions

F = np.float32
X, Y = np.random.default_rng(0).standard_normal((20, 6)).astype(F), np.arange(20) % 2


def model() -> Sequential:
    return Sequential(Flatten(), Dropout(F(0.25)), Linear(6, 2, seed=0), input_shape=(6,))


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"lr": F(0.125)}, {"lr": 0.125}),
        ({"epochs": np.int8(2), "accumulate": np.int8(2)}, {"epochs": 2, "accumulate": 2}),
        ({"batch_size": np.int8(5), "seed": np.uint64(3)}, {"batch_size": 5, "seed": 3}),
        ({"clip_norm": np.array(0.5)}, {"clip_norm": 0.5}),
        ({"nesterov": np.True_}, {"nesterov": True}),
        ({"loss": CrossEntropyLoss(F(0.125))}, {"loss": CrossEntropyLoss(0.125)}),
        ({"loss": CrossEntropyLoss(weight=np.ones(2, F))}, {"loss": CrossEntropyLoss()}),
        (
            {"loss": CrossEntropyLoss(ignore_index=np.int64(1))},
            {"loss": CrossEntropyLoss(ignore_index=1)},
        ),
        ({"loss": FocalLoss(F(2))}, {"loss": FocalLoss(2)}),
        ({"loss": HuberLoss(F(0.5))}, {"loss": HuberLoss(0.5)}),
        ({"optimizer": Adam(betas=(F(0.5), F(0.75)))}, {"optimizer": Adam(betas=(0.5, 0.75))}),
        ({"optimizer": SGD(F(0.5), F(0.5))}, {"optimizer": SGD(0.5, 0.5)}),
        ({"optimizer": Muon(ns_steps=np.int64(2))}, {"optimizer": Muon(ns_steps=2)}),
        ({"schedule": Cosine(F(0.25))}, {"schedule": Cosine(0.25)}),
        ({"schedule": StepDecay(np.int64(1), F(0.5))}, {"schedule": StepDecay(1, 0.5)}),
        ({"schedule": MultiStep([np.int64(1)])}, {"schedule": MultiStep((1,))}),  # type: ignore[arg-type]
        ({"schedule": MultiStep(np.array([1]))}, {"schedule": MultiStep((1,))}),  # type: ignore[arg-type]
        ({"optimizer": Adam(betas=np.array([0.5, 0.75]))}, {"optimizer": Adam(betas=(0.5, 0.75))}),  # type: ignore[arg-type]
        ({"schedule": Warmup(np.int64(2))}, {"schedule": Warmup(2)}),
        ({"lookahead": np.int64(2)}, {"lookahead": 2}),
        (
            {"lookahead": Lookahead(np.int64(2), F(0.25))},
            {"lookahead": Lookahead(2, 0.25)},
        ),
        (
            {"groups": [{"match": "*.bias", "lr": F(0.5), "freeze_until": np.int64(1)}]},
            {"groups": [{"match": "*.bias", "lr": 0.5, "freeze_until": 1}]},
        ),
        (
            {"callbacks": [EarlyStopping("train_loss", np.int64(1), F(0.5))]},
            {"callbacks": [EarlyStopping("train_loss", 1, 0.5)]},
        ),
        (
            {"callbacks": [ReduceLROnPlateau("train_loss", F(0.5), np.int64(0), F(0.5))]},
            {"callbacks": [ReduceLROnPlateau("train_loss", 0.5, 0, 0.5)]},
        ),
    ],
    ids=lambda options: "-".join(options) or "none",
)
def test_a_run_with_numbers_of_numpy_is_that_with_pythons(
    tmp_path: Path, options: dict[str, Any], same: dict[str, Any]
) -> None:
    weights, configs = [], []
    for name, settings in (("numpy", options), ("python", same)):
        net = model()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            settings = {"epochs": 2, "diagnose": False, "threads": 1, **settings}
            fastcnn.fit(net, (X, Y), out=tmp_path / name, **settings)
        weights.append(net.parameter_vector.copy())
        config = json.loads((tmp_path / name / "config.json").read_text(encoding="utf-8"))
        configs.append({key: config[key] for key in ("optimizer", "schedule", "training")})
    np.testing.assert_array_equal(*weights)
    assert configs[0] == configs[1]


@pytest.mark.parametrize("value", [F("inf"), F("nan"), np.float16("inf"), np.True_, "0.1", 10**400])
@pytest.mark.parametrize(
    "make",
    [
        SGD,
        Cosine,
        Dropout,
        HuberLoss,
        FocalLoss,
        BCEWithLogitsLoss,
        CrossEntropyLoss,
        LeakyReLU,
        lambda value: StepDecay(1, value),
        lambda value: OneCycle(final_factor=value),
        lambda value: EarlyStopping(min_delta=value),
        lambda value: ReduceLROnPlateau(factor=value),
        lambda value: CrossEntropyLoss(weight=[1.0, value]),
        lambda value: TrainingOptions(lr=value),
    ],
)
def test_what_is_not_a_finite_number_is_refused(make: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(ConfigurationError):
        make(value)


@pytest.mark.parametrize(
    ("padding", "same"),
    [
        (np.int8(1), 1),
        ((np.int64(1), 1), (1, 1)),
        (np.array([[1, 1], [1, 1]]), ((1, 1), (1, 1))),
    ],
)
def test_a_layer_with_numbers_of_numpy_is_saved_like_one_with_pythons(
    tmp_path: Path, padding: Any, same: Any
) -> None:
    for name, one, given in (("numpy", np.int8(1), padding), ("python", 1, same)):
        conv = Conv2d(one, one, 3 * one, stride=one, padding=given, dilation=one, seed=0)
        layers = conv, AvgPool2d(2 * one, one, divisor_override=one), Upsample(scale_factor=2 * one)
        net = Sequential(*layers, input_shape=(one, 6 * one, 6 * one))
        net.save(tmp_path / name)
    assert (tmp_path / "numpy").read_bytes() == (tmp_path / "python").read_bytes()


def test_a_flag_of_numpy_is_pythons() -> None:
    assert Augment(flip=np.True_) == Augment(flip=True)  # type: ignore[arg-type]


def test_plain() -> None:
    assert plain((np.array([1, 2]), np.ones((1, 1), F))) == ([1, 2], [[1.0]])
    found = plain((np.int8(3), [F(0.5)], np.True_, np.longdouble(2), np.array(7), "a", None))
    assert found == (3, [0.5], True, 2.0, 7, "a", None)
    assert [type(each) for each in found[:5]] == [int, list, bool, float, int]
