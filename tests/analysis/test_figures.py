"""Figures of results: names are shown as they are."""

import numpy as np
import pytest

from fastcnn import data
from fastcnn.analysis.explanations import Explanation, explanation_figure
from fastcnn.analysis.figures import confusion_figure, mistakes_figure, samples_figure
from fastcnn.training.figure import literal, new_figure, png

#: What matplotlib would read as formulas, the first as a wrong one.
NAMES = ("$\\frac$", "a$b$c", "one $")


def test_names_with_dollars_are_no_formulas() -> None:
    images = np.zeros((6, 1, 4, 4), np.uint8)
    labels = np.arange(6) % 3
    found = data.Dataset(images, labels, NAMES, data.Preprocessing(), name="$x_$")
    shares = np.eye(3)[(labels + 1) % 3]
    maps = np.zeros((4, 4))
    explained = Explanation(images[0], 0, shares[0], maps, maps, maps, "conv1")
    for figure in (
        confusion_figure(np.eye(3, dtype=int), NAMES),
        mistakes_figure(found, shares),
        samples_figure(found),
        explanation_figure(explained, NAMES),
    ):
        assert png(figure).startswith(b"\x89PNG")
    labels_shown = [
        text.get_text() for text in confusion_figure(np.eye(3), NAMES).axes[0].get_xticklabels()
    ]
    assert [text.replace(r"\$", "$") for text in labels_shown] == list(NAMES)


def test_a_name_of_other_bytes_than_unicode_is_drawn() -> None:
    figure = new_figure(2.0, 1.0)
    figure.text(0.1, 0.1, literal("run \udcff $x$"))
    assert png(figure).startswith(b"\x89PNG")


def test_characters_that_the_usual_font_lacks(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """They are drawn in another installed font, such as the STIX of matplotlib itself."""
    figure = new_figure(2.0, 1.0)
    text = figure.text(0.1, 0.1, "a \u231a")
    usual = text.get_fontfamily()
    assert png(figure).startswith(b"\x89PNG")
    assert text.get_fontfamily()[:-1] == usual
    assert caplog.text == ""
    text.set_text("a \U0010fffd")  # no font has characters for private use
    assert png(figure).startswith(b"\x89PNG")
    assert "no installed font has \U0010fffd: figures show boxes instead" in caplog.text
    assert not recwarn.list
