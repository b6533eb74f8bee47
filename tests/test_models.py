"""The named networks."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import models
from fastcnn.data.dataset import Dataset
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import ConfigurationError
from fastcnn.execution import plan
from fastcnn.training.recipe import Recipe


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("densenet_bc_40", 176_122),
        ("squeezenet", 727_626),
        ("mobilenet_v2", 2_236_682),
        ("ds_cnn", 23_180),
        ("m5", 26_723),
        ("unet", 482_466),
        ("autoencoder", 115_217),
    ],
)
def test_sizes_and_engine(name: str, parameters: int) -> None:
    model: Any = getattr(models, name)(seed=0)
    assert model.num_parameters == parameters
    loss = fastcnn.MSELoss() if name == "autoencoder" else fastcnn.CrossEntropyLoss()
    assert plan(model, 16, loss=loss).describe()
    again: Any = getattr(models, name)(seed=0)
    assert (again.parameter_vector == model.parameter_vector).all()
    other: Any = getattr(models, name)(seed=1)
    assert (other.parameter_vector != model.parameter_vector).any()


@pytest.mark.parametrize("name", ["densenet_bc_40", "squeezenet", "mobilenet_v2"])
def test_networks_take_pictures_of_any_size(name: str) -> None:
    x = np.random.default_rng(0).random((12, 1, 24, 40), np.float32)
    data = Dataset(x, np.arange(12) % 3, ("a", "b", "c"), Preprocessing())
    recipe = Recipe(model=name, seed=0)
    model = recipe.make_model(data)
    assert model.output_shape((1, 24, 40)) == (3,)
    assert recipe.model_arguments(data) == {
        "num_classes": 3,
        "seed": 0,
        "input_shape": [1, 24, 40],
    }
    assert np.isfinite(model.logits(x)).all()


def test_classes_of_pixels_are_learned() -> None:
    x = np.random.default_rng(0).random((32, 1, 16, 16), np.float32)
    model = models.unet(2, seed=0, input_shape=(1, 16, 16), width=4, levels=2)
    data = (x, (x[:, 0] > 0.5).astype(np.int64))
    history = fastcnn.fit(model, data, epochs=20, batch_size=8, optimizer="adam", lr=0.01)
    assert history.final.train_loss < 0.3


def test_sizes_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"unet: height and width.*divisible by 8"):
        models.unet(input_shape=(1, 28, 28))
    with pytest.raises(ConfigurationError, match=r"autoencoder: height and width.*divisible by 4"):
        models.autoencoder(input_shape=(1, 30, 28))
