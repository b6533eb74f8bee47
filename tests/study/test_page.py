"""The study's page in a real browser: one language at a time, on any screen."""

import importlib.util
from pathlib import Path

import pytest

from fastcnn.study.page import draw_section, write_page
from fastcnn.study.section import Figure, Section, Table, Text
from fastcnn.training.figure import new_figure
from tests.browser import CHROMIUM, Browser


def section() -> Section:
    title = Text("Learning", "学习")
    table = Table(
        (Text("seed", "种子"), Text("right", "正确")),
        [("0", Text("98 %, all", "98 %, 全部"))],
        Text("A", "甲"),
    )
    figure = Figure("line", lambda: new_figure(6.0, 3.0), Text("A line", "一条线"))
    return Section("learning", title, [Text("It learns.", "它学会了。")], [table], [figure])


def test_one_language_is_shown_at_a_time(tmp_path: Path) -> None:
    if CHROMIUM is None or importlib.util.find_spec("websockets") is None:
        pytest.skip("Chromium or websockets is not installed")
    drawn = draw_section(section(), tmp_path / "study")
    page = write_page([drawn], tmp_path / "study", [Text("Made today.", "今天制作。")])
    browser = Browser(tmp_path / "profile")
    try:
        browser.call("Page.navigate", url=page.as_uri())
        browser.wait_for("document.readyState === 'complete' && !!document.querySelector('h2')")
        browser.evaluate("show('en')")
        text = browser.evaluate("document.body.innerText")
        for words in ("It learns.", "Learning", "seed", "A line", "Made today."):
            assert words in text
        assert not any("\u4e00" <= letter <= "\u9fff" for letter in text.replace("中文", ""))
        browser.evaluate("document.getElementById('language').click()")
        text = browser.evaluate("document.body.innerText")
        for words in ("它学会了。", "学习", "种子", "98%\uff0c全部", "一条线", "今天制作。"):
            assert words in text
        assert "learns" not in text
        assert browser.evaluate("document.documentElement.lang") == "zh"
        assert "复现" in browser.evaluate("document.title")
        browser.screenshot(tmp_path / "phone.png", 390, dark=True)
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390
        assert browser.problems() == []
    finally:
        browser.close()
