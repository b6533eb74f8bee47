"""How Jupyter displays models and histories."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

import fastcnn
from fastcnn.layers import Flatten, Linear, Sequential
from fastcnn.training import History
from fastcnn.training.figure import new_figure


class Cells(HTMLParser):
    """The text of every row of a table; every tag must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "img":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_a_model_shows_its_summary() -> None:
    model = fastcnn.models.report_cnn(seed=0)
    rows = Cells(model._repr_html_()).rows
    assert rows[0] == ["layer", "", "output shape", "parameters", "FLOPs"]
    assert rows[1][:3] == ["conv1", repr(model.layers["conv1"]), "(4, 28, 28)"]
    assert rows[-1][0] == "total"
    assert rows[-1][3] == "67,539"
    assert len(rows) == 2 + len(model.layers)
    for line, row in zip(model.summary().splitlines()[2:-2], rows[1:-1], strict=True):
        assert line.split()[0] == row[0]


def test_a_model_of_unknown_shape_shows_its_layers() -> None:
    rows = Cells(Sequential({"<b>": Flatten(), "fc": Linear(4, 2)})._repr_html_()).rows
    assert rows[1:] == [["<b>", "Flatten()"], ["fc", "Linear(4, 2)"]]


def test_a_history_shows_epochs_and_curves() -> None:
    train, test = fastcnn.data.digits_dataset(60, 30, classes=(0, 1, 2))
    model = fastcnn.models.report_cnn(seed=0)
    history = fastcnn.fit(model, train, test, epochs=12, batch_size=60)
    text = history._repr_html_()
    rows = Cells(text).rows
    assert [row[0] for row in rows] == ["epoch", *map(str, range(3, 13))]
    assert rows[-1][1] == f"{history.final['train_loss']:.4f}"
    assert rows[-1][4] == f"{100 * history.final['test_accuracy']:.2f} %"
    picture = re.search(r"base64,([^\"]+)", text)
    assert picture is not None
    assert base64.b64decode(picture[1]).startswith(b"\x89PNG")
    alone = fastcnn.fit(model, train, epochs=1)
    assert Cells(alone._repr_html_()).rows[0] == [
        "epoch",
        "train loss",
        "train accuracy",
        "seconds",
    ]


@pytest.mark.parametrize("status", ["running", "failed"])
def test_an_empty_history(status: str) -> None:
    assert f"History: {status}, no epoch" in History(status=status)._repr_html_()


def test_what_holds_arrays_shows_itself_in_a_line() -> None:
    train, test = fastcnn.data.digits_dataset(40, 20, classes=(0, 1, 2))
    model = fastcnn.models.report_cnn(seed=0)
    found = fastcnn.evaluate(model, test)
    assert repr(found) == (
        f"Evaluation(loss={found.loss!r}, accuracy={found.accuracy!r}, logits=<float32 (20, 3)>)"
    )
    assert "images=<uint8 (40, 1, 28, 28)>, labels=<int64 (40,)>" in repr(train)
    many = replace(train, files=tuple(f"{index}.png" for index in range(40)))
    assert "files=('0.png', '1.png', '2.png', and 37 more)" in repr(many)
    for shown in (train, fastcnn.plan(model)):
        assert len(repr(shown)) < 2000
        assert "\n" not in repr(shown)


def test_a_figure_is_shown_without_pyplot() -> None:
    figure = new_figure(2, 1)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert figure._repr_html_().startswith("<img")
