"""A training whose last epoch ends early."""

from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn.errors import ConfigurationError
from fastcnn.optim import Cosine

TRAIN, TEST = fastcnn.data.digits_dataset(100, 20, classes=(0, 1, 2))
OPTIONS = {"batch_size": 32, "schedule": "cosine", "backend": "im2col", "ema_decay": 0.5}


def test_ends_early() -> None:
    per_epoch = -(-len(TRAIN) // 32)
    total = 3 * per_epoch - 2
    model = fastcnn.models.report_cnn(seed=0)
    history = fastcnn.fit(model, TRAIN, TEST, epochs=3, max_steps=total, **OPTIONS)
    assert len(history.steps) == total
    assert [step["epoch"] for step in history.steps].count(3) == per_epoch - 2
    rates = [Cosine().lr(step, total, per_epoch, 0.02) for step in range(total)]
    np.testing.assert_allclose([step["lr"] for step in history.steps], rates)
    assert history.final["test_accuracy"] == fastcnn.evaluate(model, TEST).accuracy


def test_is_resumed(tmp_path: Path) -> None:
    class Interrupt(fastcnn.training.Callback):
        def on_epoch_end(self, epoch, model):
            if epoch["epoch"] == 1:
                raise KeyboardInterrupt

    per_epoch = -(-len(TRAIN) // 32)
    options = {**OPTIONS, "epochs": 2, "max_steps": 2 * per_epoch - 1}
    whole = fastcnn.fit(fastcnn.models.report_cnn(seed=0), TRAIN, **options)
    with pytest.raises(KeyboardInterrupt):
        fastcnn.fit(
            fastcnn.models.report_cnn(seed=0),
            TRAIN,
            **options,
            out=tmp_path / "run",
            callbacks=[Interrupt()],
        )
    model = fastcnn.models.report_cnn(seed=0)
    history = fastcnn.fit(model, TRAIN, **options, out=tmp_path / "run", resume=True)
    assert history.column("train_loss") == whole.column("train_loss")
    assert len(history.steps) == 2 * per_epoch - 1


@pytest.mark.parametrize("steps", [4, 8, 9])
def test_must_end_in_the_last_epoch(steps: int) -> None:
    assert -(-len(TRAIN) // 32) == 4
    with pytest.raises(ConfigurationError, match=f"max_steps={steps} must end within the last"):
        fastcnn.fit(fastcnn.models.report_cnn(), TRAIN, epochs=2, max_steps=steps, batch_size=32)
