"""What a user gives as a model.

It looks for the part of a model that connects layers: a model predicts, and so imports what runs
networks, which itself asks here.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fastcnn.errors import ConfigurationError
from fastcnn.layers.connections import Connections

if TYPE_CHECKING:
    from fastcnn.layers.container import Model


def as_model(value: Any) -> "Model":
    """The model that a user gives as one.

    Raises
    ------
    ConfigurationError
        If it is something else.
    """
    if isinstance(value, Connections):
        return cast("Model", value)
    hint = ""
    if isinstance(value, (str, Path)):
        hint = "; fastcnn.load(path) reads one from a file"
    elif isinstance(getattr(value, "model_", None), Connections):
        hint = "; that of an estimator is its model_"
    elif hasattr(value, "load_model"):
        hint = "; that of a run is run.load_model()"
    raise ConfigurationError(
        "model must be a Model, such as fastcnn.models.report_cnn() or fastcnn.Sequential(...), "
        f"got {value!r}{hint}"
    )
