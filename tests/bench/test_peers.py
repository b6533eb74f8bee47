"""Other libraries train equally: losses, gradients, momentum and running statistics."""

from dataclasses import dataclass

import numpy as np
import pytest

from bench.peers import PEERS
from fastcnn import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)
from fastcnn.benchmark import peer, steps
from fastcnn.benchmark.work import NETWORKS, OwnTrainer, Work, learned_keys, make_work
from tests.absent import skip_absent


@dataclass(frozen=True)
class SmallWork(Work):
    """A network with every kind of layer of the benchmark's networks."""

    def model(self) -> Sequential:
        branch = Conv2d(4, 4, 3, padding=1, bias=False, seed=1), BatchNorm2d(4)
        block = Residual(Sequential(*branch))
        return Sequential(
            Conv2d(2, 4, 3, padding=1, bias=False, seed=0), BatchNorm2d(4), ReLU(), block,
            MaxPool2d(2), Conv2d(4, 5, 3, padding=1, stride=2, seed=2), AvgPool2d(2), Flatten(),
            Linear(5 * 4, 3, seed=3), input_shape=(2, 16, 16),
        )  # fmt: skip


@pytest.fixture(scope="module")
def work() -> SmallWork:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((24, 2, 16, 16)).astype(np.float32)
    return SmallWork("small", 6, x, generator.integers(0, 3, len(x)))


NAMES = ["PyTorch eager", "PyTorch channels_last", "JAX jit", "TensorFlow function",
         "TensorFlow XLA", "tinygrad",
         pytest.param("PyTorch compile", marks=pytest.mark.slow)]  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", NAMES)
def test_a_peer_computes_the_same(name: str, work: SmallWork) -> None:
    skip_absent(name)
    makers = {found: make for found, _, make in steps.contestants(work, (1,), PEERS)}
    trainer = makers[name]()
    difference, note = steps._Expected(work).compare(trainer)
    assert note == ""
    assert difference < 1e-3
    assert trainer.parameters().keys() == work.model().state_dict().keys()


def test_tinygrad_takes_part_in_small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "can_run", lambda name: name == "tinygrad")
    found = {
        network: [name for name, *_ in steps.contestants(make_work(network, 1), (1,), PEERS)]
        for network in NETWORKS
    }
    part = [network for network, names in found.items() if "tinygrad" in names]
    assert part == ["report_cnn", "lenet5"]


@pytest.mark.torch
@pytest.mark.slow
def test_compiled_pooling_loses_no_gradient() -> None:
    """PyTorch 2.13 compiles this network, at this batch, to wrong gradients if it may reorder."""
    skip_absent("PyTorch")
    from fastcnn.benchmark.pytorch import TorchTrainer

    work = make_work("report_cnn", 16)
    _, note = steps._Expected(work).compare(TorchTrainer(work, "compile", 1))
    assert note == ""


def test_buffers_are_not_learned(work: SmallWork) -> None:
    model = work.model()
    left = set(model.state_dict()) - learned_keys(model)
    assert {key.rpartition(".")[2] for key in left} == {
        "running_mean", "running_var", "num_batches_tracked"
    }  # fmt: skip
    trainer = OwnTrainer(work, "im2col", 1)
    trainer.train(1)
    assert 0.5 < trainer.loss() < 5
