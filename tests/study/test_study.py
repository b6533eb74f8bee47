"""The study's page: complete, readable without a network, and written after each experiment."""

import base64
import importlib.util
import re
import signal
import sys
import types
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import fastcnn
from fastcnn.cli.app import application
from fastcnn.study import reproduction
from fastcnn.study.page import draw, draw_section, write_page
from fastcnn.study.reproduction import Reproduction
from fastcnn.study.run import EXPERIMENTS, run_study
from fastcnn.study.section import Figure, Section, Table, Text
from fastcnn.study.setting import Setting
from fastcnn.training.figure import new_figure
from tests.browser import CHROMIUM, Browser
from tests.study.english import left_in_english


def a_figure() -> Figure:
    def make() -> object:
        figure = new_figure(2.0, 1.0)
        figure.subplots().plot([0, 1])
        return figure

    return Figure("line", make, Text('A "line" & more', "线"))


@pytest.mark.parametrize("languages", [("", "-zh"), ("",)])
def test_page_has_everything_and_asks_for_nothing(
    languages: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    font = "a font" if languages[1:] else None
    monkeypatch.setattr("fastcnn.study.page.family_with", lambda words: font)
    table = Table([Text("a", "甲"), Text("b", "乙")], [("<x>", "1")], Text("Numbers", "数字"))
    section = Section("one", Text("Title", "标题"), [Text("Found", "发现")], [table], [a_figure()])
    out = tmp_path / "out"
    page = write_page([draw_section(section, out)], out, [Text("Fact", "事实")]).read_text("utf-8")
    for text in ("Title", "标题", "Found", "发现", "&lt;x&gt;", "甲", "数字", "Fact", "事实"):
        assert text in page
    assert 'alt="A &quot;line&quot; &amp; more"' in page
    assert not re.search(r"https?://|<script src|<link rel=.stylesheet", page)
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", page)
    names = [f"line-{theme}{language}.png" for theme in ("light", "dark") for language in languages]
    files = [tmp_path / "out" / "figures" / name for name in names]
    assert [base64.b64decode(picture) for picture in pictures] == [f.read_bytes() for f in files]


def test_figures_are_drawn_for_each_page() -> None:
    assert draw(a_figure(), "light", "en") != draw(a_figure(), "dark", "en")


def test_wording_follows_the_numbers() -> None:
    def made(accuracy: float) -> Reproduction:
        curves = {
            (activation, rate): {
                name: np.full((2, 3), accuracy)
                for name in (*reproduction.COLUMNS, "seconds")
            }
            for activation in reproduction.ACTIVATIONS
            for rate in reproduction.RATES
        }  # fmt: skip
        return Reproduction(curves, 100, 0.6)

    good, bad = (reproduction.section(made(value)).findings[0].en for value in (0.99, 0.5))
    assert "99.00 % at a fair one; the worst seed of these is above the report's 94.73 %" in good
    assert "is not above the report's" in bad
    times = reproduction.section(made(0.99)).findings[-1].en
    assert "takes 0.990 s with sigmoid" in times
    assert "would take 1 minute (computed from 600 ms" in times
    figure = reproduction.curves_figure(made(0.99))
    assert figure.legends
    assert not left_in_english(figure)
    assert reproduction.section(made(0.99)).tables[0].rows[0][-3:] == ("1", "1", "0.990")
    assert reproduction.section(made(0.5)).tables[0].rows[0][-3:-1] == ("-", "-")


def test_a_study_on_drawn_digits(tmp_path: Path) -> None:
    train, test = fastcnn.data.digits_dataset(300, 60, classes=(0, 1, 2))
    told: list[str] = []
    page = run_study(
        Setting(train, test, quick=True), tmp_path, chosen=["reproduction"],
        tell=lambda name, seconds: told.append(name),
    )  # fmt: skip
    assert told == ["reproduction"]
    assert "300 training and 60 test images" in page.read_text("utf-8")
    assert "its results mean little" in page.read_text("utf-8")


def test_ctrl_c_while_the_page_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The experiment that has just been measured is not lost."""

    def draw() -> object:
        signal.raise_signal(signal.SIGINT)
        return a_figure().draw()

    experiment = types.ModuleType("fastcnn.study.test")
    vars(experiment)["run"] = lambda setting: "measured"
    vars(experiment)["section"] = lambda result: Section(
        "one", Text(result, "甲"), [], figures=[Figure("line", draw, Text("", ""))]
    )
    monkeypatch.setitem(sys.modules, "fastcnn.study.test", experiment)
    monkeypatch.setattr("fastcnn.study.page.THEMES", ("light",))
    monkeypatch.setattr("fastcnn.study.page.family_with", lambda words: None)
    told: list[str] = []
    train, test = fastcnn.data.digits_dataset(9, 9, classes=(0, 1, 2))
    with pytest.raises(KeyboardInterrupt):
        run_study(
            Setting(train, test, quick=True), tmp_path, chosen=["test", "test"],
            tell=lambda name, seconds: told.append(name),
        )  # fmt: skip
    assert told == ["test"]
    assert "measured" in (tmp_path / "index.html").read_text("utf-8")


def test_a_figure_is_not_drawn_again_after_the_next_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []

    def draw(name: str) -> object:
        drawn.append(name)
        return a_figure().draw()

    for name in ("first", "second"):
        experiment = types.ModuleType(name)
        figure = Figure(name, partial(draw, name), Text(f"about {name}", ""))
        section = Section(name, Text(name, ""), [], figures=[figure])
        vars(experiment)["run"] = lambda setting: None
        vars(experiment)["section"] = lambda result, section=section: section
        monkeypatch.setitem(sys.modules, f"fastcnn.study.{name}", experiment)
    monkeypatch.setattr("fastcnn.study.page.THEMES", ("light",))
    monkeypatch.setattr("fastcnn.study.page.family_with", lambda words: None)
    setting = Setting(*fastcnn.data.digits_dataset(9, 9, classes=(0, 1, 2)))
    page = run_study(setting, tmp_path, chosen=["first", "second"]).read_text("utf-8")
    assert drawn == ["first", "second"]
    assert page.index("about first") < page.index("about second")


def test_every_experiment_can_be_imported() -> None:
    from importlib import import_module

    for name in EXPERIMENTS:
        module = import_module(f"fastcnn.study.{name}")
        assert callable(module.run)
        assert callable(module.section)


def test_an_unknown_experiment_is_named(tmp_path: Path) -> None:
    with pytest.raises(fastcnn.errors.ConfigurationError, match="no experiment 'magic'"):
        CliRunner().invoke(
            application(["study"]),
            ["study", "magic", "--out", str(tmp_path)],
            catch_exceptions=False,
        )


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.skipif(
    importlib.util.find_spec("websockets") is None, reason="websockets is not installed"
)
def test_the_page_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastcnn.study.page.family_with", lambda words: "a font")
    table = Table([Text("a", "甲")] * 6, [("0.123456 / 0.123456",) * 6], Text("Numbers", "数字"))
    section = Section("one", Text("Title", "标题"), [Text("Found", "发现")], [table], [a_figure()])
    out = tmp_path / "out"
    address = write_page([draw_section(section, out)], out, [Text("Fact", "事实")]).as_uri()
    browser = Browser(tmp_path / "profile")
    shown = "[...document.images].filter(i => i.offsetWidth).map(i => i.className).join()"
    try:
        browser.call("Page.navigate", url=address)
        browser.wait_for("document.images.length === 4 && document.readyState === 'complete'")
        for name, width in (("phone", 390), ("light", 1000)):
            browser.screenshot(tmp_path / f"{name}.png", width)
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
        browser.evaluate("show('en')")
        assert browser.evaluate(shown) == "light en"
        browser.evaluate("document.getElementById('theme').click()")
        assert browser.evaluate(shown) == "dark en"
        browser.evaluate("document.getElementById('language').click()")
        assert browser.evaluate(shown) == "dark zh"
        assert browser.problems() == []
        assert all(url.startswith((address, "data:")) for url in browser.requests())
    finally:
        browser.close()
