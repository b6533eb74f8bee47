"""A training run in plain values: what the command line, a sweep and a saved run have in common."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from fastcnn.data.augment import Augment
from fastcnn.data.dataset import Dataset
from fastcnn.errors import ConfigurationError
from fastcnn.layers import Model
from fastcnn.layers.definition import from_definition, read_definition
from fastcnn.losses import CrossEntropyLoss
from fastcnn.models import MODELS
from fastcnn.optim import Optimizer, Schedule, make_optimizer, make_schedule
from fastcnn.training.fit import fit
from fastcnn.training.history import History

#: Learning rate by optimiser where none is given.
DEFAULT_LR = {"sgd": 0.02, "adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3}


@dataclass(frozen=True)
class Recipe:
    """Names and numbers that decide a training run, beside its data.

    Attributes are the options of ``fastcnn train``.
    """

    model: str = "report"
    activation: str = "relu"
    optimizer: str = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float | None = None
    schedule: str = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    ema_decay: float | None = None
    augment: str | None = None
    epochs: int = 5
    batch_size: int = 64
    seed: int = 0

    @classmethod
    def of(cls, settings: dict[str, Any]) -> "Recipe":
        """A recipe of these settings.

        Raises
        ------
        ConfigurationError
            If there is no setting of such a name.
        """
        known = [field.name for field in fields(cls)]
        unknown = [name for name in settings if name not in known]
        if unknown:
            raise ConfigurationError(
                f"no setting named {', '.join(unknown)}: there are {', '.join(known)}"
            )
        return cls(**settings)

    @property
    def is_file(self) -> bool:
        """Whether the network is described by a file."""
        return self.model.endswith((".toml", ".json"))

    def model_arguments(self, num_classes: int) -> dict[str, Any]:
        """Arguments of the model's factory."""
        arguments: dict[str, Any] = {"num_classes": num_classes, "seed": self.seed}
        if self.model == "report":
            arguments["activation"] = self.activation
        return arguments

    def make_model(self, num_classes: int) -> Model:
        """The network, with its initial weights.

        Raises
        ------
        ConfigurationError
            If there is none of that name, or the file of that name describes none.
        """
        if self.is_file:
            return from_definition(read_definition(self.model), self.seed)
        if self.model not in MODELS:
            raise ConfigurationError(
                f"model must be one of {', '.join(MODELS)}, or a .toml or .json file, "
                f"got {self.model!r}"
            )
        return MODELS[self.model](**self.model_arguments(num_classes))

    def make_optimizer(self) -> Optimizer:
        """The optimiser."""
        lr = DEFAULT_LR.get(self.optimizer, 0.0) if self.lr is None else self.lr
        choices: dict[str, Any] = {"lr": lr}
        if self.optimizer == "sgd":
            choices |= {"momentum": self.momentum, "nesterov": self.nesterov}
        if self.weight_decay is not None:
            choices["weight_decay"] = self.weight_decay
        return make_optimizer(self.optimizer, **choices)

    def make_schedule(self) -> Schedule:
        """The schedule of the learning rate."""
        return make_schedule(self.schedule, self.warmup_steps)

    def make_augment(self) -> Augment | None:
        """How the training images are changed.

        Raises
        ------
        ConfigurationError
            If the words say nothing that can be done.
        """
        return None if self.augment is None else Augment.parse(self.augment)

    def make_loss(self) -> CrossEntropyLoss:
        """The loss."""
        return CrossEntropyLoss(self.label_smoothing)

    def run(
        self, train: Dataset, test: Dataset | None = None, **options: Any
    ) -> tuple[Model, History]:
        """Train a new network.

        Parameters
        ----------
        train, test : Dataset
        **options
            Passed to :func:`~fastcnn.training.fit`: ``backend``, ``threads``, ``callbacks``.
        """
        model = self.make_model(len(train.classes))
        history = fit(
            model, train, test, epochs=self.epochs, batch_size=self.batch_size,
            optimizer=self.make_optimizer(), schedule=self.make_schedule(), loss=self.make_loss(),
            clip_norm=self.clip_norm, ema_decay=self.ema_decay, augment=self.make_augment(),
            seed=self.seed, **options,
        )  # fmt: skip
        return model, history

    def changes(self) -> dict[str, Any]:
        """The settings that differ from the defaults."""
        defaults = asdict(Recipe())
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}
