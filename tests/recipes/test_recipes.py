"""Named recipes: their contents, how options change them, and saving and loading."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn import recipes
from fastcnn.data import Dataset, Preprocessing
from fastcnn.errors import ConfigurationError, DataError
from fastcnn.layers import init
from fastcnn.optim import SGD, Adam, Warmup
from fastcnn.recipes import NamedRecipe
from fastcnn.recipes.toml_text import toml_text

ALL = (
    "cifar10-90", "cifar10-94", "cifar10-94-muon", "fashion-92.5", "fashion-94", "keras-mnist",
    "lecun-lenet5-distortions", "mnist-99", "mnist-99.6", "pytorch-mnist", "report", "resnet20",
    "simplechains-lenet",
)  # fmt: skip


def pictures(count: int = 64, shape: tuple[int, int, int] = (1, 28, 28), classes: int = 10):
    rng = np.random.default_rng(0)
    return Dataset(
        rng.integers(0, 256, (count, *shape)).astype(np.uint8),
        np.arange(count) % classes,
        tuple(map(str, range(classes))),
        Preprocessing(),
    )


def small(**training: object) -> NamedRecipe:
    settings = {
        "data": {"name": "mnist"},
        "model": {"name": "report_cnn"},
        "training": {"epochs": 1, "backend": "im2col", **training},
    }
    return NamedRecipe("small", settings)


def test_names() -> None:
    assert tuple(recipes.names()) == ALL


@pytest.mark.parametrize("name", ALL)
def test_recipe(name: str) -> None:
    recipe = recipes.get(name)
    shape = (3, 32, 32) if "cifar10" in recipe.data_name else (1, 28, 28)
    count = 3 if recipe.data_name == "mnist012" else 10
    data = recipe.prepared(pictures(60, shape, count))
    model = recipe.make_model(data)
    assert model.logits(data.images[:2]).shape == (2, count)
    again = NamedRecipe(name, tomllib.loads(recipe.text()))
    assert again.settings == recipe.settings
    assert again.options == recipe.options
    first, second = (recipe.make_model(data).parameter_vector for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert recipe.about.endswith(".")


def test_small_fashion_network() -> None:
    recipe = recipes.get("fashion-92.5")
    assert recipe.make_model(pictures()).num_parameters < 100_000


def test_changes() -> None:
    recipe = recipes.get("mnist-99").changed({"epochs": 3, "lr": 0.5, "label_smoothing": 0.2})
    assert recipe.options.epochs == 3
    assert recipe.options.make_optimizer() == Adam(0.5, betas=(0.7, 0.9))
    assert recipe.options.make_loss().label_smoothing == 0.2
    other = recipe.changed({"optimizer": "sgd", "momentum": 0.5})
    assert other.options.make_optimizer() == SGD(0.02, momentum=0.5)
    warm = recipe.changed({"warmup_steps": 7}).options.make_schedule()
    assert isinstance(warm, Warmup)
    assert warm.steps == 7
    assert warm.then == recipe.options.make_schedule()
    assert recipe.changed({"model": "lenet5"}).model_name == "lenet5"
    plain = small(augment="shift=2", optimizer={"name": "sgd", "weight_decay": 0.1})
    plain = plain.changed({"augment": "none", "weight_decay": None})
    assert tomllib.loads(plain.text())["training"] == {
        "epochs": 1, "backend": "im2col", "optimizer": {"name": "sgd"},
    }  # fmt: skip
    assert recipes.get("mnist-99").options.epochs == 2, "the recipe itself stays"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum": 0.9}, "momentum has no effect with its optimizer adam"),
        ({"epoch": 3}, "no option named epoch"),
        ({"model": "lenet"}, "model must be one of"),
        ({"activation": "relu", "model": "lenet5"}, "activation"),
        ({"tta": "ten"}, "tta must be one of"),
    ],
)
def test_changes_that_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        recipes.get("mnist-99").changed(changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[date]\nname = 'mnist'", "no section date"),
        ("[data]\nname = 'mnist'\nmaen = [0.1]", "data has no maen"),
        ("[data]\nname = 'mnist'\n[model]", "either a name or layers"),
        ("[data]\nname = 'mnist'\n[model]\nname = 'report_cnn'\ninitial = 'he'", "initial must be"),
        ("[data]\nname = 'mnist'\n[model]\nname = 'report_cnn'\nwiden = 2", "widen"),
        ("[data]\nname = 'mnist'\n[model]\nname = 'report_cnn'\nseed = 2", "seed"),
        ("[data]\nname = 'mnist'\n[model]\nname = 'report_cnn'\nwhiten = {layer = 'c'}", "whiten"),
        ("[data]\nname = 'mnist'\nmean = [0.1]\n[model]\nname = 'report_cnn'", "one positive std"),
        ("[model]\nname = 'report_cnn'", "data needs a name"),
        ("data = 3", "data must be a table"),
        ("[data", "cannot be read as a recipe"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        recipes.get(path)
    with pytest.raises(ConfigurationError, match=r"no recipe named .*mnist-99"):
        recipes.get("mine")


def test_run_is_fit(tmp_path: Path) -> None:
    data = pictures(60, classes=3)
    recipe = small(seed=3)
    recipe.write(tmp_path / "small.toml")
    with pytest.raises(ConfigurationError, match=r"must end in \.toml, got small\.txt"):
        recipe.write("small.txt")
    model, history = recipes.get(tmp_path / "small.toml").run(data)
    other = fastcnn.models.report_cnn(seed=3)
    expected = fastcnn.fit(other, data, epochs=1, seed=3, backend="im2col")
    assert history.column("train_loss") == expected.column("train_loss")
    np.testing.assert_array_equal(model.parameter_vector, other.parameter_vector)
    assert recipe.evaluate(model, data).loss == fastcnn.evaluate(model, data).loss


def test_preprocessing_is_the_recipes() -> None:
    data = recipes.get("simplechains-lenet").prepared(pictures())
    assert data.preprocessing == Preprocessing((0.0,), (1.0,))


def test_weights() -> None:
    model = fastcnn.models.lenet5(seed=0)
    model.parameter_vector[...] = 7.0
    recipes.named_recipe.set_weights(model, init.Xavier(), np.random.default_rng(0))
    named = model.named_parameters()
    assert not any(value.any() for key, value in named.items() if key.endswith("bias"))
    bound = np.sqrt(6 / (84 + 10))
    assert 0.9 * bound < np.abs(named["fc3.weight"]).max() <= bound


def test_text() -> None:
    tables = {
        "about": 'a "quoted" word, and é',
        "one": {"list": [1, 2.5, True], "table": {"a b": 1e-7}, "long": [{"x": "y" * 60}] * 2},
    }
    assert tomllib.loads(toml_text(tables)) == tables
    with pytest.raises(TypeError, match="no NoneType"):
        toml_text({"a": None})


def test_records(tmp_path: Path) -> None:
    for record in recipes.records():
        assert record.recipe.partition(",")[0] in ALL
        assert len(record.accuracies) >= len(record.seconds)
        assert record.accuracies
    path = tmp_path / "records.json"
    for text in ("{", '{"format": 2, "records": []}', '{"format": 1, "records": [{}]}'):
        path.write_text(text)
        with pytest.raises(DataError, match=r"records\.json is not a file"):
            recipes.records(path)
