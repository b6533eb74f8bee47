"""The drawing page: its answers, hostile input, many clients, and a real browser."""

import importlib.util
import io
import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastcnn
from fastcnn import data
from fastcnn.errors import DataError
from fastcnn.serve import make_server
from fastcnn.serve import server as server_module
from fastcnn.serve.answers import Answers
from fastcnn.serve.pictures import decode, prepare
from tests.browser import CHROMIUM, Browser


@pytest.fixture(scope="module")
def answers() -> Answers:
    train, _ = data.digits_dataset(1500, 1, classes=(0, 1, 2))
    model = fastcnn.models.report_cnn(seed=0)
    fastcnn.fit(model, train, epochs=3)
    return Answers(model, train.classes, train.normalisation, "report")


@pytest.fixture
def server(answers: Answers) -> Iterator[Any]:
    made = make_server(answers)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def digit(label: int) -> np.ndarray:
    """A drawn digit, dark on bright, large and off the middle."""
    _, test = data.digits_dataset(10, 60, classes=(0, 1, 2))
    image = test.images[int(np.nonzero(test.labels == label)[0][0]), 0]
    paper = np.full((400, 300), 255, np.uint8)
    paper[150:374, 60:284] = 255 - np.kron(image, np.ones((8, 8), np.uint8))
    return paper


def ask(
    server: Any, content: bytes | None, path: str = "/api/predict", **headers: str
) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.server_port}{path}", content,
        {"Content-Type": "image/png", **headers},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_predictions(server: Any, label: int) -> None:
    status, answer = ask(server, png(digit(label)))
    assert status == 200
    assert answer["class"] == str(label)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert "layers" not in answer
    _, answer = ask(server, png(digit(label)), "/api/predict?maps=1")
    assert [layer["operation"] for layer in answer["layers"]][:3] == [
        "conv2d",
        "relu",
        "max_pool2d",
    ]
    assert answer["layers"][0]["shape"] == [4, 28, 28]
    assert ask(server, None, "/api/model")[1]["classes"] == ["0", "1", "2"]


def test_pictures_become_what_mnist_has() -> None:
    made = prepare(decode(png(digit(0)), 1), (1, 28, 28))[0]
    rows, columns = np.nonzero(made.max(axis=1) > 32)[0], np.nonzero(made.max(axis=0) > 32)[0]
    assert max(rows[-1] - rows[0], columns[-1] - columns[0]) in (18, 19, 20)
    mass = made / made.sum()
    assert mass.sum(axis=1) @ np.arange(28) == pytest.approx(13.5, abs=1)
    assert (prepare(np.zeros((1, 9, 9), np.uint8), (1, 28, 28)) == 0).all()
    assert prepare(np.zeros((3, 9, 9), np.uint8), (3, 32, 32)).shape == (3, 32, 32)
    assert decode(png(np.zeros((5, 4, 3), np.uint8)), 3).shape == (3, 5, 4)


def bomb() -> bytes:
    """A small PNG that claims to have 10 billion pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


def test_hostile_pictures(server: Any) -> None:
    good = png(digit(1))
    for content in (b"", b"nonsense", good[: len(good) // 2], bomb(), b"<svg/>" * 100):
        status, answer = ask(server, content)
        assert status == 400, content[:20]
        assert answer["error"]
    with pytest.raises(DataError, match="too many"):
        decode(png(np.zeros((4001, 4001), np.uint8)), 1)
    assert ask(server, good)[0] == 200


def test_hostile_requests(server: Any) -> None:
    good = png(digit(1))
    assert ask(server, good, **{"Content-Type": "text/plain"})[0] == 415
    assert ask(server, good, "/api/other")[0] == 404
    assert ask(server, None, "/../server.py")[0] == 404
    assert ask(server, good, Host="evil.example")[0] == 403
    assert ask(server, good, Origin="http://evil.example")[0] == 403
    host = f"Host: 127.0.0.1:{server.server_port}\r\nContent-Type: image/png\r\n"
    for length, status in (("", b" 411 "), ("Content-Length: 5000000\r\n", b" 413 ")):
        with socket.create_connection(("127.0.0.1", server.server_port)) as raw:
            raw.sendall(f"POST /api/predict HTTP/1.0\r\n{host}{length}\r\n".encode())
            assert status in raw.recv(100)
    assert ask(server, good)[0] == 200


def test_slow_clients_are_hung_up(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_SECONDS", 0.3)
    began = time.monotonic()
    slow = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(5)]
    for connection in slow:
        connection.sendall(b"GET / HT")
    for connection in slow:
        connection.settimeout(5)
        assert connection.recv(10) == b""
        connection.close()
    assert time.monotonic() - began < 4
    monkeypatch.undo()
    assert ask(server, png(digit(2)))[0] == 200


def test_clients_at_once(server: Any) -> None:
    pictures = {label: png(digit(label)) for label in (0, 1, 2)}
    found: list[bool] = []

    def work(label: int) -> None:
        found.extend(ask(server, pictures[label])[1].get("class") == str(label) for _ in range(5))

    threads = [threading.Thread(target=work, args=(i % 3,)) for i in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 45


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.skipif(
    importlib.util.find_spec("websockets") is None, reason="websockets is not installed"
)
def test_drawing_in_a_browser(server: Any, tmp_path: Path) -> None:
    browser = Browser(tmp_path / "profile")
    address = f"http://127.0.0.1:{server.server_port}/"
    try:
        browser.call("Page.navigate", url=address)
        browser.wait_for("document.getElementById('model').textContent.includes('parameters')")
        box = browser.evaluate(
            "JSON.stringify(document.getElementById('paper').getBoundingClientRect())"
        )
        left, top = json.loads(box)["left"], json.loads(box)["top"]
        browser.mouse("mousePressed", left + 140, top + 40)
        for step in range(1, 21):
            browser.mouse("mouseMoved", left + 140, top + 40 + 10 * step)
        browser.mouse("mouseReleased", left + 140, top + 240)
        browser.wait_for("document.getElementById('answer').textContent === 'It is 1'")
        assert browser.evaluate("document.querySelectorAll('#bars .bar').length") == 3
        assert browser.evaluate("document.querySelectorAll('#layers canvas').length") > 20
        for name, width, dark in (
            ("light", 1000, False),
            ("dark", 1000, True),
            ("phone", 390, False),
        ):
            browser.screenshot(tmp_path / f"{name}.png", width, dark=dark)
            wide = browser.evaluate("document.documentElement.scrollWidth")
            assert wide <= width
        browser.evaluate("document.getElementById('clear').click()")
        browser.wait_for("document.getElementById('answer').textContent === 'Nothing drawn yet'")
        assert browser.problems() == []
        assert all(url.startswith((address, "data:")) for url in browser.requests())
    finally:
        browser.close()
