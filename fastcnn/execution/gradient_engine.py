"""The engine with gradient and update apart."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.execution.executor import Normalise, count_correct
from fastcnn.execution.lanes import (
    engine_targets,
    input_factors,
    loss_key,
    make_engine,
    optimizer_settings,
    report_fallback,
    signed_seed,
    stored_images,
)
from fastcnn.execution.passes import as_target, loss_and_gradients
from fastcnn.layers import Model
from fastcnn.losses import Loss
from fastcnn.optim import Optimizer, clip_gradient_norm

if TYPE_CHECKING:
    from fastcnn.backends.lanes.engine import Engine


class GradientEngine:
    """Gradient and update apart, for what happens between them to gradients of several processes.

    What the engine does not cover goes through im2col, with a log line that says so.
    """

    def __init__(
        self,
        model: Model,
        loss: Loss,
        optimizer: Optimizer,
        batch_size: int,
        seed: int,
        threads: int,
        clip_norm: float | None,
        slots: dict[str, np.ndarray],
    ) -> None:
        from fastcnn.backends.lanes.grouping import Unsupported

        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.seed, self.clip_norm, self.slots = seed, clip_norm, slots
        self.graph = model.graph()
        self._engine: Engine | None = None
        self._settings: np.ndarray | None = None
        try:
            self._engine = make_engine(
                model, self.graph, batch_size, threads, loss=loss_key(loss), training=True
            )
            self._settings = optimizer_settings(optimizer, clip_norm)
        except Unsupported as reason:
            report_fallback(reason)
        self.gradient = (
            np.zeros_like(model.parameter_vector) if self._engine is None else self._engine.gradient
        )
        self._targets: dict[str, Any] = {}

    def load(self, images: np.ndarray, labels: np.ndarray, normalisation: Normalise) -> None:
        """Set what samples are taken from."""
        target = as_target(self.loss, labels, len(images), self.graph, np.float32)
        self._images, self._labels, self._normalisation = images, labels, normalisation
        if self._engine is not None:
            self._stored = stored_images(images)
            self._targets = engine_targets(self.loss, target, labels)
            self._engine.normalise(*input_factors(normalisation, images))

    def gradient_of(
        self, samples: np.ndarray, step: int, first_sample: int = 0
    ) -> tuple[float, int]:
        """Loss and hits of some samples; their gradient is in ``gradient``.

        ``first_sample`` is the place of the first one in a batch that several processes share.
        """
        if not len(samples):
            self.gradient[...] = 0.0
            return 0.0, 0
        if self._engine is not None:
            losses, hits, _ = self._engine.run(
                self._stored, np.ascontiguousarray(samples, np.int64), np.zeros(1),
                **self._targets, seed=signed_seed(self.seed), first_step=step,
                first_sample=first_sample,
            )  # fmt: skip
            return float(losses[0]), int(hits[0])
        x = self._normalisation.apply(self._images[samples], dtype=self.model.dtype)
        labels = self._labels[samples]
        value, logits, self.gradient = loss_and_gradients(
            self.model, x, labels, loss=self.loss, backend="im2col",
            seed=self.seed + first_sample, step=step,
        )  # fmt: skip
        return value, count_correct(logits, labels, self.loss)

    def update(self, gradient: np.ndarray, lr: float, step: int) -> float:
        """Take the optimiser's step along a gradient; returns its norm before clipping."""
        if self._engine is None or self._settings is None:
            norm = clip_gradient_norm(gradient, self.clip_norm)
            self.optimizer.update(self.model.parameter_vector, gradient, self.slots, lr, step + 1)
            return norm
        if gradient is not self._engine.gradient:
            self._engine.gradient[...] = gradient
        _, _, norms = self._engine.run(
            self._stored, np.zeros(1, np.int64), np.array([lr]), phases=np.zeros((0, 3), np.int64),
            kind=self.optimizer.kind,  # type: ignore[attr-defined]
            settings=self._settings, slots=tuple(self.slots.values()), first_step=step, threads=1,
        )  # fmt: skip
        return float(norms[0])
