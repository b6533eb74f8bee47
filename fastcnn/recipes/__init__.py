"""Named recipes: complete training runs, from data to accuracy, each in one readable TOML file.

>>> import fastcnn
>>> recipe = fastcnn.recipes.get("mnist-99")
>>> train, test = recipe.load_data()  # doctest: +SKIP
>>> model, history = recipe.run(train, test)  # doctest: +SKIP
"""

from pathlib import Path

from fastcnn.errors import ConfigurationError
from fastcnn.recipes.named_recipe import NamedRecipe
from fastcnn.recipes.records import Record, records

FOLDER = Path(__file__).parent

__all__ = ["NamedRecipe", "Record", "get", "names", "records"]


def names() -> list[str]:
    """The names of all recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def get(name: str | Path) -> NamedRecipe:
    """A recipe by its name, or from a ``.toml`` file.

    Parameters
    ----------
    name : str or path

    Raises
    ------
    ConfigurationError
        If there is no recipe with this name, or the file does not describe one.

    Examples
    --------
    >>> import fastcnn
    >>> fastcnn.recipes.get("report").options.epochs
    5
    """
    if str(name) in names():
        return NamedRecipe.read(FOLDER / f"{name}.toml")
    if str(name).endswith(".toml"):
        return NamedRecipe.read(name)
    raise ConfigurationError(f"no recipe named {name!r}: there are {', '.join(names())}")
