"""What the input and the output of a model mean: kept with its weights."""

from collections.abc import Mapping

import numpy as np

from fastcnn.backends.graph import Shape
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import ConfigurationError, NonFiniteError

#: What a model may predict, and the name under which files say so.
PREDICTIONS = (None, "classes", "values", "value", "labels", "label")
METADATA = "fastcnn.predicts"


class Meaning:
    """The part of a model that says how samples become its input, and what its output is."""

    input_shape: Shape | None
    _preprocessing = Preprocessing()
    _predicts: str | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """How samples become what the first layer reads."""
        return self._preprocessing

    @preprocessing.setter
    def preprocessing(self, value: Preprocessing) -> None:
        if not isinstance(value, Preprocessing):
            raise ConfigurationError(f"preprocessing must be a Preprocessing, got {value!r}")
        channels = value.channels
        if channels and self.input_shape is not None and channels != self.input_shape[0]:
            raise ConfigurationError(
                f"the preprocessing has {channels} channels, the model takes {self.input_shape}"
            )
        object.__setattr__(self, "_preprocessing", value)

    @property
    def predicts(self) -> str | None:
        """What :meth:`predict` gives."""
        return self._predicts

    @predicts.setter
    def predicts(self, value: str | None) -> None:
        parts = value.split(",") if isinstance(value, str) else [value]
        if any((part or None) not in PREDICTIONS for part in parts):
            raise ConfigurationError(
                f"predicts must be one of {PREDICTIONS}, or of several outputs one of them for "
                f"each, between commas, got {value!r}"
            )
        object.__setattr__(self, "_predicts", value)

    @property
    def predicts_classes(self) -> bool:
        """Whether outputs are to tell classes apart, as far as is known."""
        return self.predicts is None or "classes" in self.predicts.split(",")

    def metadata(self) -> dict[str, str]:
        """What files of the model's weights also hold: text by name."""
        return {**self.preprocessing.to_metadata(), METADATA: self.predicts or ""}

    def load_metadata(self, metadata: Mapping[str, str]) -> None:
        """Take up what the metadata of a file say; what they do not say stays as it is.

        Raises
        ------
        ConfigurationError
            If they are damaged, or do not fit the model; nothing is then changed.
        """
        before, found = self.preprocessing, Preprocessing.from_metadata(metadata)
        self.preprocessing = before if found is None else found
        try:
            self.predicts = metadata.get(METADATA, self.predicts) or None
        except ConfigurationError:
            self.preprocessing = before
            raise


def check_classes(method: str, predicts: str | None, outputs: np.ndarray) -> None:
    """Refuse to tell classes by outputs that do not tell them.

    Raises
    ------
    ConfigurationError, NonFiniteError
    """
    if predicts not in (None, "classes"):
        raise ConfigurationError(
            f"{method}: the model was trained on {predicts.removesuffix('s')}s, not "
            "on classes: use predict"
        )
    if outputs.shape[1] == 1:
        raise ConfigurationError(
            f"{method}: one output cannot tell classes apart: use logits, or give the network "
            "an output for each class"
        )
    finite = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
    if not finite.all():
        raise NonFiniteError(
            f"{method}: outputs of {np.count_nonzero(~finite):,} samples are NaN or infinite, "
            f"that of sample {finite.argmin()} first: they tell no class; look at the samples "
            "and the weights"
        )
