"""The drawing page in a real browser."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.data import Pictures, Preprocessing
from fastcnn.serve import Answers
from fastcnn.serve import server as server_module
from tests.browser import CHROMIUM, Browser
from tests.serve.conftest import digit, png, running


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if CHROMIUM is None or importlib.util.find_spec("websockets") is None:
        pytest.skip("Chromium or websockets is not installed")
    made = Browser(tmp_path / "profile")
    yield made
    made.close()


def open_page(browser: Browser, server: Any) -> str:
    address = f"http://127.0.0.1:{server.server_port}/"
    browser.call("Page.navigate", url=address)
    browser.wait_for("document.readyState === 'complete' && typeof look === 'function'")
    return address


def test_drawing(server: Any, browser: Browser, tmp_path: Path) -> None:
    address = open_page(browser, server)
    assert browser.evaluate("document.querySelectorAll('#bars li').length") == 3
    box = browser.evaluate(
        "JSON.stringify(document.getElementById('paper').getBoundingClientRect())"
    )
    left, top = json.loads(box)["left"], json.loads(box)["top"]
    browser.mouse("mousePressed", left + 140, top + 40)
    for step in range(1, 21):
        browser.mouse("mouseMoved", left + 140, top + 40 + 10 * step)
    browser.mouse("mouseReleased", left + 140, top + 240)
    browser.wait_for_answer("It is 1")
    assert browser.evaluate("document.querySelector('#bars .best span').textContent") == "1"
    shown = "document.querySelector('#bars .best b').getBoundingClientRect()"
    assert browser.evaluate(f"{shown}.width") > 100
    assert browser.evaluate(f"{shown}.height") > 5
    assert browser.evaluate("document.querySelectorAll('#layers canvas').length") > 20
    browser.check_widths(tmp_path)
    browser.evaluate("document.getElementById('clear').click()")
    browser.wait_for_answer("Nothing drawn yet")
    assert browser.evaluate("document.getElementById('layers').hidden")
    assert browser.problems() == []
    assert all(url.startswith((address, "data:")) for url in browser.requests())


def test_dropping_and_choosing_pictures(server: Any, browser: Browser, tmp_path: Path) -> None:
    open_page(browser, server)
    browser.give(png(digit(0)))
    browser.wait_for_answer("It is 0")
    browser.give(b"no picture at all", "text/plain")
    browser.wait_for_answer("That is not a picture that this browser can read")
    # A photograph above the server's limit: the page downscales it.
    noise = np.random.default_rng(0).integers(190, 256, (2800, 2100), dtype=np.uint8)
    photograph = png(np.minimum(np.kron(digit(2), np.ones((7, 7), np.uint8)), noise))
    assert len(photograph) > server_module.MAX_BODY
    browser.give(photograph)
    browser.wait_for_answer("It is 2")
    (tmp_path / "one.png").write_bytes(png(digit(1)))
    browser.choose(tmp_path / "one.png")
    browser.wait_for_answer("It is 1")
    assert browser.problems() == []


def test_coloured_pictures(browser: Browser) -> None:
    model = fastcnn.models.resnet8(seed=0)
    rule = Preprocessing(pictures=Pictures((3, 32, 32), "crop"))
    classes = tuple(f"kind {number}" for number in range(10))
    red = np.zeros((40, 60, 3), np.uint8)
    red[..., 0] = 250
    with running(Answers(model, classes, rule, "colours")) as server:
        open_page(browser, server)
        assert browser.evaluate("document.title") == "Draw or drop a picture"
        browser.give(png(red))
        browser.wait_for("document.getElementById('answer').textContent.startsWith('It is kind')")
        seen = browser.evaluate(
            "{const seen = document.getElementById('seen'); [seen.width, seen.height, "
            "...seen.getContext('2d').getImageData(16, 16, 1, 1).data].join()}"
        )
        assert seen == "32,32,250,0,0,255"
        assert browser.problems() == []
