import numpy as np
import pytest

from fastcnn.data import Dataset, digits_dataset
from fastcnn.data.augment import PRESETS
from fastcnn.execution import gradients
from fastcnn.layers import init
from fastcnn.study.networks import Network
from fastcnn.study.trajectory import Training, follow, log_steps, probe

Data = tuple[Dataset, Dataset]


@pytest.fixture(scope="module")
def data() -> Data:
    return digits_dataset(300, 100, classes=(0, 1, 2))


def test_learns_and_measures_where_it_is_told(data: Data) -> None:
    training = Training(Network(), 0.05, 40, evaluated_at=(0, 7), probed_at=(0, 40), momentum=0.9)
    seen = follow(training, *data)
    assert [one.step for one in seen.scores] == [0, 7, 40]
    assert [one.step for one in seen.probes] == [0, 40]
    assert len(seen.losses) == 40
    assert seen.scores[-1].test_accuracy > seen.scores[0].test_accuracy
    assert seen.scores[-1].train_loss < 0.5 * seen.scores[0].train_loss


@pytest.mark.parametrize("augment", [None, PRESETS["digits"]])
def test_measuring_changes_nothing(data: Data, augment: object) -> None:
    plain = Training(Network(dropout=0.5), 0.02, 12, images=130, augment=augment)  # type: ignore[arg-type]
    watched = Training(
        Network(dropout=0.5), 0.02, 12, images=130, augment=augment,  # type: ignore[arg-type]
        evaluated_at=(0, 1, 5), probed_at=(3,),
    )  # fmt: skip
    np.testing.assert_array_equal(follow(plain, *data).losses, follow(watched, *data).losses)


def test_seeds_differ(data: Data) -> None:
    losses = [follow(Training(Network(), 0.02, 5, seed=s), *data).losses for s in (0, 0, 1)]
    np.testing.assert_array_equal(losses[0], losses[1])
    assert not np.array_equal(losses[0], losses[2])


def test_fewer_images_than_a_batch(data: Data) -> None:
    seen = follow(Training(Network(), 0.05, 30, images=20, momentum=0.9), *data)
    assert seen.scores[-1].train_accuracy == 1.0


def test_divergence_is_noted(data: Data) -> None:
    wild = Training(Network(conv_activation="leaky"), 1e6, 20, evaluated_at=(0,))
    seen = follow(wild, *data)
    assert seen.diverged
    assert [one.step for one in seen.scores] == [0]
    assert len(seen.losses) <= 20


def test_probe_measures_gradients_and_zeros(data: Data) -> None:
    model = Network().build(3, 0)
    model.preprocessing = data[0].preprocessing
    seen = probe(model, data[0].subset(slice(0, 6)), 5)
    _, slopes = gradients(model, data[0].images[:6], data[0].labels[:6], backend="reference")
    for layer in ("conv1", "fc3"):
        norm = np.linalg.norm(slopes[f"{layer}.weight"])
        assert seen.gradient[layer] == pytest.approx(norm, rel=1e-3)
        assert seen.weight[layer] == pytest.approx(np.linalg.norm(model.layers[layer].weight))  # type: ignore[attr-defined]
    assert list(seen.zeros) == ["relu1", "relu2", "relu3", "relu4"]
    assert all(0.1 < share < 0.9 for share in seen.zeros.values())
    assert seen.zeros == seen.blocked
    sigmoid = probe(Network("sigmoid", "leaky").build(3, 0), data[0].subset(slice(0, 32)))
    assert sigmoid.zeros["sigmoid3"] == 0.0
    assert sigmoid.blocked["leaky1"] == 0.0


def test_networks() -> None:
    sigmoid = Network("tanh", "sigmoid", dropout=0.5).build(3, 0)
    assert [name for name in sigmoid.layers if name[-1] in "1234" and "oid" in name] == [
        "sigmoid1", "sigmoid2",
    ]  # fmt: skip
    assert {"tanh3", "dropout3", "tanh4", "dropout4"} <= set(sigmoid.layers)
    small = Network(weight_init=init.Normal(1e-3), bias_init=init.Constant(2.0)).build(3, 0)
    assert 0.5e-3 < float(np.std(small.layers["fc1"].weight)) < 2e-3  # type: ignore[attr-defined]
    assert (small.layers["conv2"].bias == 2.0).all()  # type: ignore[attr-defined]
    cnn, dense = (
        Network(convolutions=on).build(3, 0).parameter_vector.size for on in (True, False)
    )
    assert abs(dense - cnn) < 0.01 * cnn
    with pytest.raises(ValueError, match="conv_activation"):
        Network(conv_activation="step").build(3, 0)


def test_log_steps() -> None:
    steps = log_steps(500, 8)
    assert steps[0] == 0
    assert steps[-1] == 500
    assert list(steps) == sorted(set(steps))
