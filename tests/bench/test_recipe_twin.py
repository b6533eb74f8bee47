"""PyTorch's version of a recipe: the first step, and a whole training, equal fastcnn's."""

import numpy as np
import pytest

from bench import recipe_twin
from fastcnn.data import Dataset
from fastcnn.errors import ConfigurationError
from fastcnn.recipes import NamedRecipe, get, names
from tests.recipes.test_recipes import pictures

pytest.importorskip("torch")


def shrunk(name: str) -> NamedRecipe:
    """A recipe with a narrow version of airbench's network, if it uses that."""
    recipe = get(name)
    settings = {**recipe.settings}
    if settings["model"].get("name") == "airbench":
        settings["model"] = {**settings["model"], "widths": [32, 32, 32]}
    return NamedRecipe(name, settings)


def data_for(recipe: NamedRecipe, count: int = 64) -> Dataset:
    shape = (3, 32, 32) if "cifar10" in recipe.data_name else (1, 28, 28)
    return recipe.prepared(pictures(count, shape, 3 if recipe.data_name == "mnist012" else 10))


@pytest.mark.parametrize("name", names())
def test_first_step(name: str) -> None:
    recipe = shrunk(name)
    recipe_twin.check_first_step(recipe, data_for(recipe), backend="im2col")


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_first_step_of_the_engine(name: str) -> None:
    recipe = get(name)
    recipe_twin.check_first_step(recipe, data_for(recipe))


def test_other_gradients_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = shrunk("report")
    loss = recipe_twin.twin_loss
    monkeypatch.setattr(recipe_twin, "twin_loss", lambda *args: (1 + 1e-6) * loss(*args))
    with pytest.raises(AssertionError, match=r"gradients of .* differ"):
        recipe_twin.check_first_step(recipe, data_for(recipe), backend="im2col")


@pytest.mark.parametrize("name", ["cifar10-94", "cifar10-94-muon", "mnist-99"])
def test_training(name: str) -> None:
    """Groups, rates, augmentation, Lookahead and frozen parameters are the same."""
    recipe = shrunk(name)
    changes = {"batch_size": 16, "epochs": 4, "backend": "im2col"}
    if recipe.options.max_steps is not None:
        changes |= {"steps_per_epoch": 3, "max_steps": 11}
    recipe = recipe.changed(changes | ({"lookahead": "every=3"} if "94" in name else {}))
    data = data_for(recipe)
    model, _ = recipe.run(data, seed=1)
    twin = recipe_twin.Twin(recipe, data, data, threads=1)
    twin.train(1)
    before = recipe.make_model(data, 1).named_parameters()
    after = model.named_parameters()
    for key, parameter in twin.parameters.items():
        moved = np.abs(after[key] - before[key]).max()
        apart = np.abs(after[key] - parameter.detach().numpy()).max()
        assert apart <= 0.05 * moved, key
        assert (moved == 0) == (key == "whiten.weight"), key


def test_unknown_parts() -> None:
    recipe = get("report").changed({"optimizer": "lion"})
    data = data_for(recipe)
    with pytest.raises(ConfigurationError, match="no optimiser Lion"):
        recipe_twin.Twin(recipe, data, data, 1).train(0)
    with pytest.raises(ConfigurationError, match="no loss"):
        recipe_twin.twin_loss(recipe.changed({"loss": "mse"}).options.make_loss(), None, None)
