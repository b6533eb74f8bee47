"""Several processes, simulated by threads, compared with one."""

import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import data
from fastcnn.data import Augment
from fastcnn.distributed import World
from fastcnn.distributed.agreement import check_agreement
from fastcnn.distributed.executor import DistributedExecutor
from fastcnn.distributed.sharding import Shards
from fastcnn.errors import ConfigurationError, RankError, ShapeError
from fastcnn.layers import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    Dropout2d,
    Flatten,
    Linear,
    ReLU,
    Residual,
    Sequential,
)
from fastcnn.optim import SGD, Adam, RMSprop
from fastcnn.training import ReduceLROnPlateau, fit
from tests.distributed.thread_world import on_ranks

TRAIN, TEST = data.digits_dataset(203, 40, classes=(0, 1, 2))


def network(dropout: bool = True, norm: bool = False) -> Sequential:
    layers = [Conv2d(1, 4, 3, stride=2, seed=0), *([BatchNorm2d(4)] if norm else []), ReLU()]
    if dropout:
        layers += [Dropout2d(0.2), Flatten(), Dropout(0.3)]
    else:
        layers += [Flatten()]
    return Sequential(*layers, Linear(4 * 13 * 13, 3, seed=1), input_shape=(1, 28, 28))


def trained(
    size: int, train: Any = TRAIN, make: Any = network, **settings: Any
) -> tuple[np.ndarray, list[Any], list[Any]]:
    """Parameters and records after training; checks that all ranks have the same."""
    chosen: dict[str, Any] = {"epochs": 2, "batch_size": 40, "seed": 3, "threads": 1}
    chosen |= {"optimizer": SGD(0.05, momentum=0.9)} | settings

    def work(world: World) -> Any:
        model = make()
        history = fit(model, train, TEST, world=world, **chosen)
        return model, history

    made = on_ranks(size, work) if size > 1 else [work(World())]
    vectors = [model.parameter_vector for model, _ in made]
    assert all((vector == vectors[0]).all() for vector in vectors)
    history = made[0][1]
    timeless = [{k: v for k, v in epoch.items() if "second" not in k} for epoch in history.epochs]
    return vectors[0], history.steps, timeless


def assert_near(one: Any, other: Any) -> None:
    """The same trajectory up to the rounding of float32 sums, which training amplifies."""
    losses = [np.array([step["loss"] for step in made[1]]) for made in (one, other)]
    assert losses[1] == pytest.approx(losses[0], rel=2e-4, abs=1e-5)
    assert other[0] == pytest.approx(one[0], rel=1e-3, abs=2e-5)
    for a, b in zip(one[2], other[2], strict=True):
        assert b["test_loss"] == pytest.approx(a["test_loss"], rel=1e-3)
        assert b["train_accuracy"] == pytest.approx(a["train_accuracy"], abs=1 / 203)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("backend", ["lanes", "im2col"])
def test_the_trajectory_of_one_process(size: int, backend: str) -> None:
    """With dropout, clipping and uneven batches; the last of an epoch has 3 samples."""
    settings = {"backend": backend, "clip_norm": 0.5}
    assert_near(trained(1, **settings), trained(size, **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": Adam(3e-3), "ema_decay": 0.9},
        {"optimizer": RMSprop(1e-3)},
        {"augment": Augment(shift=2, rotation=5)},
        {"augment": Augment(mixup=0.3)},
        {"loss": fastcnn.MSELoss()},
        {"batch_size": 300},
    ],
    ids=["adam, average", "rmsprop", "augment", "mixup", "mse", "one batch"],
)
def test_the_same_with_other_settings(settings: dict[str, Any]) -> None:
    assert_near(trained(1, **settings), trained(3, **settings))


def test_weights_of_samples() -> None:
    generator = np.random.default_rng(0)
    x = TRAIN.images / 255
    weighted = (x, TRAIN.labels, generator.uniform(0.2, 3.0, len(x)))
    for settings in ({}, {"augment": Augment(shift=1, fill=0)}):
        assert_near(trained(1, weighted, **settings), trained(3, weighted, **settings))


@pytest.mark.parametrize("backend", ["lanes", "im2col"])
def test_an_ordered_reduction_gives_the_same_bits(backend: str) -> None:
    settings: dict[str, Any] = {
        "ordered_reduction": True, "backend": backend, "callbacks": [], "clip_norm": 1.0
    }  # fmt: skip
    one = trained(1, **settings)
    for size in (2, 3, 4):
        several = trained(size, **settings)
        assert (several[0] == one[0]).all()
        assert several[1:] == one[1:]
    assert_near(trained(1, backend=backend, clip_norm=1.0), one)


def test_a_fixed_number_gives_the_same_bits() -> None:
    one, other = trained(3), trained(3)
    assert (one[0] == other[0]).all()
    assert one[1:] == other[1:]


@pytest.mark.parametrize("every", [2, 3, 100])
def test_local_steps_are_averaged(every: int) -> None:
    """Against a loop that trains one model per rank and averages them."""
    size, steps = 2, 6
    optimizer, rates = SGD(0.05, momentum=0.9), np.full(steps, 0.05)
    order = np.arange(200)[: steps * 32]

    def work(world: World) -> Any:
        model = network(dropout=False)
        executor = DistributedExecutor(
            model, world=world, loss=fastcnn.CrossEntropyLoss(), optimizer=optimizer,
            batch_size=32, average_every=every,
        )  # fmt: skip
        made = executor.train_steps(TRAIN, order, rates)
        return model.parameter_vector, made.losses

    got, losses = on_ranks(size, work)[0]
    models = [network(dropout=False) for _ in range(size)]
    alone = [
        fastcnn.execution.make_executor(
            model, loss=fastcnn.CrossEntropyLoss(), optimizer=optimizer, batch_size=16, threads=1
        )
        for model in models
    ]
    expected = []
    for step in range(steps):
        batch = order[step * 32 : (step + 1) * 32]
        each = [
            executor.train_steps(TRAIN, batch[16 * rank :][:16], rates[:1]).losses[0]
            for rank, executor in enumerate(alone)
        ]
        expected.append(np.mean(each))
        if (step + 1) % every == 0 or step == steps - 1:
            for arrays_of in (
                [model.parameter_vector for model in models],
                [executor.optimizer_state()["momentum_buffer"] for executor in alone],
            ):
                mean = np.mean(arrays_of, axis=0)
                for array in arrays_of:
                    array[...] = mean
    assert losses == pytest.approx(expected, rel=1e-5)
    assert got == pytest.approx(models[0].parameter_vector, rel=1e-4, abs=1e-6)


def test_training_with_averages_does_not_depend_on_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings: dict[str, Any] = {
        "average_every": 4, "batch_size": 20, "ema_decay": 0.8, "epochs": 4,
        "augment": Augment(shift=1), "optimizer": SGD(0.01, momentum=0.9),
    }  # fmt: skip
    one = trained(3, **settings)
    monkeypatch.setattr(sys.modules["fastcnn.training.loop"], "CHUNK_SECONDS", 0.0)
    other = trained(3, **settings)
    assert (one[0] == other[0]).all()
    assert one[1:] == other[1:]
    assert one[2][-1]["test_accuracy"] > 0.5


def normed() -> Sequential:
    return Sequential(
        Conv2d(1, 4, 3, stride=2, seed=0), BatchNorm2d(4), ReLU(), Conv2d(4, 6, 3, seed=2),
        BatchNorm2d(6), Flatten(), Linear(6 * 11 * 11, 3, seed=1), input_shape=(1, 28, 28),
    )  # fmt: skip


def branched() -> Sequential:
    """The engine reaches the normalisation that comes first after the other."""
    main = Sequential(Conv2d(1, 4, 3, stride=2, seed=0), BatchNorm2d(4))
    shortcut = Sequential(Conv2d(1, 4, 3, stride=2, seed=2), BatchNorm2d(4), ReLU())
    return Sequential(
        Residual(main, shortcut), Flatten(), Linear(4 * 13 * 13, 3, seed=1),
        input_shape=(1, 28, 28),
    )  # fmt: skip


@pytest.mark.parametrize("make", [normed, branched])
@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("backend", ["lanes", "im2col"])
def test_batch_normalisation_over_all_processes(
    size: int, backend: str, make: Callable[[], Sequential]
) -> None:
    """The last batch of an epoch has 3 samples: one of four processes has none."""

    def work(world: World) -> dict[str, np.ndarray]:
        model = make()
        fit(model, TRAIN, world=world, epochs=2, batch_size=40, lr=0.01, threads=1, backend=backend)
        return model.copy_state()

    states = on_ranks(size, work)
    expected = work(World())
    for state in states:
        assert all((state[key] == value).all() for key, value in states[0].items())
    for key, value in expected.items():
        assert states[0][key] == pytest.approx(value, rel=2e-3, abs=2e-4), key


def test_local_sgd_normalises_by_shares() -> None:
    def work(world: World) -> dict[str, np.ndarray]:
        model = network(norm=True)
        fit(model, TRAIN, world=world, epochs=1, batch_size=40, average_every=2)
        return model.copy_state()

    states = on_ranks(2, work)
    assert all((states[1][key] == value).all() for key, value in states[0].items())


def test_resume_on_another_number(tmp_path: Path) -> None:
    def settings(epochs: int, **more: Any) -> dict[str, Any]:
        return {
            "ordered_reduction": True, "epochs": epochs, "batch_size": 40, "seed": 3,
            "callbacks": [ReduceLROnPlateau(patience=0)], **more,
        }  # fmt: skip

    def first(world: World) -> None:
        fit(network(), TRAIN, TEST, world=world, out=tmp_path / "run", **settings(2))

    def rest(world: World) -> Any:
        model = network()
        more = settings(4, out=tmp_path / "run", resume=True)
        return model, fit(model, TRAIN, TEST, world=world, **more)

    on_ranks(2, first)
    resumed = on_ranks(3, rest)
    whole = network()
    history = fit(whole, TRAIN, TEST, **settings(4))
    for model, made in resumed:
        assert (model.parameter_vector == whole.parameter_vector).all()
        assert made.steps == history.steps
        assert made.column("test_loss") == history.column("test_loss")


def test_an_evaluation_in_shares_is_the_evaluation() -> None:
    def work(world: World) -> Any:
        executor = DistributedExecutor(
            network(), world=world, loss=fastcnn.CrossEntropyLoss(), optimizer=SGD(), batch_size=32
        )
        return executor.evaluate(many)

    many, _ = data.digits_dataset(700, 3, classes=(0, 1, 2))
    one = work(World())
    for size in (2, 4):
        for loss, accuracy, logits in on_ranks(size, work):
            assert (loss, accuracy) == one[:2]
            assert (logits == one[2]).all()


@pytest.mark.parametrize(
    ("make", "settings", "error", "message"),
    [
        (network, {"average_every": 2, "ordered_reduction": True}, ConfigurationError, "exclude"),
        (network, {"average_every": 2, "batch_size": 1}, ConfigurationError, "at least that"),
        (network, {"average_every": 0}, ConfigurationError, "average_every must be"),
        (lambda: network(norm=True), {"ordered_reduction": True}, ConfigurationError, "batch norm"),
        (network, {"batch_size": 0}, ConfigurationError, "batch_size must be"),
    ],
)
def test_what_cannot_be_is_refused_by_all(
    make: Any, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    def work(world: World) -> Any:
        with pytest.raises(error, match=message) as caught:
            fit(make(), TRAIN, world=world, **settings)
        assert world.known_error is caught.value
        return world.rank

    assert on_ranks(2, work) == [0, 1]


def test_shares_of_one_sample_have_no_variance() -> None:
    def norm_last() -> Sequential:
        return Sequential(
            Flatten(), Linear(784, 4, seed=0), fastcnn.layers.BatchNorm1d(4),
            Linear(4, 3, seed=1), input_shape=(1, 28, 28),
        )  # fmt: skip

    def work(world: World) -> None:
        with pytest.raises(ShapeError, match="more than one value"):
            fit(norm_last(), TRAIN, world=world, batch_size=100)

    on_ranks(2, work)


def test_a_failure_before_the_first_step_is_raised_by_all() -> None:
    def work(world: World) -> str:
        images = TRAIN.images if world.rank != 2 else TRAIN.images[:, :, :20]
        with pytest.raises(RankError) as caught:
            fit(network(), (images, TRAIN.labels), world=world)
        return str(caught.value)

    messages = on_ranks(3, work)
    assert messages[0].startswith("rank 2 of 3 on ")
    assert "samples have shape (1, 20, 28)" in messages[0]
    assert len(set(messages)) == 1


@pytest.mark.parametrize("what", ["data", "pixel", "settings", "test", "code"])
def test_disagreement_is_named(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(world: World) -> str:
        odd = world.rank == 1
        labels = TRAIN.labels.copy()
        labels[7] = (labels[7] + (odd and what == "data")) % 3
        # More images than a run's own checksum reads: this pixel is in one that it skips.
        images = np.concatenate([TRAIN.images] * 21)
        images[1, 0, 0, 0] += odd and what == "pixel"
        tested = 40 - (odd and what == "test")
        clip = 2.0 if odd and what == "settings" else 1.0
        run = partial(
            fit, network(), (images, np.tile(labels, 21)),
            (TEST.images[:tested], TEST.labels[:tested]), clip_norm=clip,
        )  # fmt: skip
        if what == "code":
            run = partial(check_agreement, model={"a": 1, "b": {"c": odd}})
        with pytest.raises(RankError) as caught:
            run(world=world)
        return str(caught.value)

    message = on_ranks(2, work)[0]
    assert "rank 1 on " in message
    named = {"data": "data.checksum", "pixel": "data.checksum",
             "settings": "clip_norm 2.0 instead of 1.0",
             "test": "data.test_checksum ", "code": "model.b.c True instead of False"}  # fmt: skip
    assert named[what] in message


def test_shares_are_disjoint_and_cover_the_batch() -> None:
    for count in (1, 7, 16, 33, 64, 100, 256):
        for size in (1, 2, 3, 4, 7):
            for unit in (1, 16):
                parts = [Shards(rank, size, 64, unit).share(count) for rank in range(size)]
                assert parts[0][0] == 0
                assert parts[-1][1] == count
                assert all(a[1] == b[0] for a, b in pairwise(parts))
                assert all(first % unit == 0 or first == count for first, _ in parts)
                sizes = [end - first for first, end in parts]
                assert max(sizes) - min(sizes) <= unit or count % unit
                assert Shards(0, size, 64, unit).smallest(count) == min(s for s in sizes if s)


def test_places_follow_the_batches() -> None:
    order = np.arange(100)
    for size in (1, 2, 3, 5):
        seen = [
            order[place] for rank in range(size) for place in Shards(rank, size, 32).places(100)
        ]
        assert sorted(np.concatenate(seen).tolist()) == order.tolist()


def test_an_ordered_sum_is_the_sum_in_order() -> None:
    generator = np.random.default_rng(0)
    rows = (generator.standard_normal((7, 23)) * 10.0 ** generator.integers(-4, 4, (7, 1))).astype(
        np.float32
    )
    expected = rows[0].copy()
    for row in rows[1:]:
        expected += row
    for counts in ([7], [4, 3], [0, 7, 0], [2, 2, 2, 1], [7] + [0] * 29):
        ends = np.cumsum([0, *counts])

        def work(world: World, counts: Any = counts, ends: Any = ends) -> np.ndarray:
            mine = rows[ends[world.rank] : ends[world.rank + 1]]
            return world.ordered_sum(mine, counts)

        results = on_ranks(len(counts), work) if len(counts) > 1 else [work(World())]
        assert all((made == expected).all() for made in results)
