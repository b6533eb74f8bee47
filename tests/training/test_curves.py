"""The figure of a run: its panels, and the positions of its numbers."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastcnn
from fastcnn.errors import NonFiniteError
from fastcnn.training import History, fit
from fastcnn.training.curves import curves, curves_png, smooth
from fastcnn.training.history import EpochRecord, StepRecord
from fastcnn.training.line_chart import Line, Panel, draw_panels, ticks


def history(epochs: int, tested: bool = True, steps: int = 40) -> History:
    generator = np.random.default_rng(0)
    made = History()
    for number in range(1, epochs + 1):
        made.epochs.append(
            EpochRecord(
                kind="epoch", epoch=number, train_loss=1 / number, train_accuracy=1 - 0.1 / number,
                test_loss=0.5 if tested else None, test_accuracy=1.0 if tested else None,
                seconds=1.0, samples_per_second=100.0,
            )
        )  # fmt: skip
    for step in range(steps * max(1, epochs)):
        made.steps.append(
            StepRecord(
                kind="step", epoch=1 + step // steps, step=step + 1,
                loss=float(generator.uniform(0, 2)), lr=0.1,
            )
        )  # fmt: skip
    return made


@pytest.mark.parametrize(
    ("made", "titles"),
    [
        (history(2), ["Training loss", "Training accuracy", "Test loss", "Test accuracy"]),
        (history(3, tested=False), ["Training loss", "Training accuracy"]),
        (history(0, steps=9), ["Training loss"]),
        (History(), []),
    ],
)
def test_there_is_a_panel_for_what_was_measured(made: History, titles: list[str]) -> None:
    assert [panel.title for panel in curves(made)] == titles
    content = curves_png(made)
    assert (content is None) == (not titles)
    if content is not None:
        rows, columns = -(-len(titles) // 2), min(2, len(titles))
        assert Image.open(io.BytesIO(content)).size == (540 * columns, 360 * rows)


def test_before_the_first_epoch_ends_steps_are_counted() -> None:
    (panel,) = curves(history(0, steps=9))
    assert panel.x_name == "step"
    assert panel.lines[0].x.tolist() == list(range(1, 10))


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_run_without_a_step_has_no_picture(epochs: int, tmp_path: Path) -> None:
    train, _ = fastcnn.data.digits_dataset(60, 10, classes=(0, 1, 2))
    model = fastcnn.models.report_cnn(seed=0)
    if epochs:  # the first step diverges
        with pytest.raises(NonFiniteError):
            fit(model, (1e30 * np.ones((60, 1, 28, 28), np.float32), train.labels), epochs=1,
                out=tmp_path)  # fmt: skip
    else:
        fit(model, train, epochs=0, out=tmp_path)
    assert not (tmp_path / "curves.png").exists()


@pytest.mark.parametrize(("known", "panels"), [((), 2), ((2,), 3)])
def test_epochs_without_an_accuracy_are_left_out(known: tuple[int, ...], panels: int) -> None:
    """For example if all targets of an epoch's batches are ignored."""
    made = history(3)
    for record in made.epochs:
        record["train_accuracy"] = 0.5 if record["epoch"] in known else None
        record["test_accuracy"] = None
    assert len(curves(made)) == panels
    for panel in curves(made)[1:-1]:
        assert panel.lines[0].x.tolist() == list(known)
    assert curves_png(made) is not None


def test_the_last_value_stands_to_the_right_of_its_line() -> None:
    """A label on a line between two epochs would be struck through."""

    def picture(last: str) -> np.ndarray:
        line = Line(np.array([1.0, 2.0]), np.array([0.0, 1.0]), "#D55E00", markers=True, last=last)
        content = draw_panels([Panel("Test loss", "nats", [line])], columns=1)
        return np.asarray(Image.open(io.BytesIO(content)), int)

    changed = np.argwhere((picture("0.0172") != picture("")).any(axis=2))
    last_point = 540 - 76
    assert changed[:, 1].min() > last_point + 4
    assert changed[:, 1].max() < 540


@pytest.mark.parametrize(
    ("low", "high", "step", "expected"),
    [
        (0, 10, 1, [0, 2, 4, 6, 8, 10]),
        (1, 5, 1, [1, 2, 3, 4, 5]),
        (1, 2, 1, [1, 2]),
        (0.012, 0.031, 0, [0.015, 0.02, 0.025, 0.03]),
        (99.1, 100.2, 0, [99.5, 100.0]),
        (0.5, 1.5, 1, [1]),
        (-3.0, 3.0, 0, [-2, 0, 2]),
    ],
)
def test_ticks_are_round(low: float, high: float, step: float, expected: list[float]) -> None:
    found = ticks(low, high, least_step=step)
    assert len(found) <= 6
    assert found == pytest.approx(expected)


def test_an_axis_of_per_cent_has_no_tick_above_100() -> None:
    line = Line(np.array([1.0, 2.0]), np.array([100.0, 100.0]), "#0072B2")
    assert draw_panels([Panel("a", "%", [line], most=100.0)], 1) != draw_panels(
        [Panel("a", "%", [line])], 1
    )


def test_long_runs_keep_their_extremes() -> None:
    """A line of more points than pixels is thinned: one bad step still shows."""
    y = np.zeros(100_000)
    y[54_321] = 1.0
    line = Line(np.arange(len(y), dtype=float), y, "#000000")
    image = np.asarray(Image.open(io.BytesIO(draw_panels([Panel("", "", [line])], columns=1))))
    assert (image[70:300, 200:420].min(axis=2) < 100).any()


def test_smoothing() -> None:
    assert smooth(np.arange(6.0), 3).tolist() == [0.0, 0.5, 1.0, 2.0, 3.0, 4.0]
