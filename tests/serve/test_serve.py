"""The drawing page: its answers, hostile input, many clients, and a real browser."""

import base64
import contextlib
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
from fastcnn.serve import Answers, make_server
from fastcnn.serve import server as server_module
from fastcnn.serve.pictures import decode, prepare
from tests.browser import CHROMIUM, Browser


@pytest.fixture(scope="module")
def answers() -> Answers:
    train, _ = data.digits_dataset(1500, 1, classes=(0, 1, 2))
    model = fastcnn.models.report_cnn(seed=0)
    fastcnn.fit(model, train, epochs=3)
    return Answers(model, train.classes, train.normalisation, "report")


@contextlib.contextmanager
def running(answers: Answers) -> Iterator[Any]:
    made = make_server(answers)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def server(answers: Answers) -> Iterator[Any]:
    with running(answers) as made:
        yield made


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


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_pictures_are_refused_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    picture = Image.fromarray(generator.integers(0, 256, (20, 24), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("PNG", "L", {}), ("PNG", "P", {}), ("JPEG", "RGB", {"exif": turned}), ("JPEG", "CMYK", {}),
        ("WEBP", "RGB", {}), ("GIF", "P", {}), ("BMP", "RGB", {}),
    ]  # fmt: skip
    for kind, mode, options in kinds:
        buffer = io.BytesIO()
        picture.convert(mode).save(buffer, kind, **options)
        for _ in range(80):
            content = bytearray(buffer.getvalue())
            for _ in range(int(generator.integers(1, 6))):
                content[int(generator.integers(len(content)))] = int(generator.integers(256))
            with contextlib.suppress(DataError):
                assert decode(bytes(content), 1).dtype == np.uint8


def test_sixteen_bits_are_scaled_and_photographs_turned() -> None:
    bright = np.linspace(0, 65535, 48).reshape(6, 8).astype(np.uint16)
    assert decode(png(bright), 1)[0] == pytest.approx(bright / 257, abs=1)
    pixels = np.zeros((8, 16), np.uint8)
    pixels[:, :8] = 255
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    turned = decode(buffer.getvalue(), 1)[0]
    assert turned.shape == (16, 8)
    assert turned[:7].min() > 200
    assert turned[9:].max() < 50


def test_large_and_long_pictures() -> None:
    assert decode(png(np.zeros((3000, 2000), np.uint8)), 1).shape == (1, 1024, 683)
    long = np.zeros((1, 5000), np.uint8)
    long[0, ::2] = 255
    for channels, shape in ((1, (1, 28, 28)), (3, (3, 32, 32))):
        assert prepare(decode(png(long), channels), shape).shape == shape
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255  # the middle is what is taken
    assert prepare(decode(png(wide), 3), (3, 32, 32)).min() > 200


def test_networks_that_cannot_be_asked(answers: Answers) -> None:
    model, identity = fastcnn.models.report_cnn(seed=0), answers.normalisation
    with pytest.raises(DataError, match=r"gives \(3,\), not one number for each class"):
        Answers(model, ("0", "1"), identity, "")
    flat = fastcnn.Sequential(fastcnn.Linear(4, 2), input_shape=(4,))
    with pytest.raises(DataError, match=r"takes \(4,\), not pictures"):
        Answers(flat, ("0", "1"), identity, "")
    model.parameter_vector[7] = np.nan
    with pytest.raises(DataError, match="not finite"):
        Answers(model, ("0", "1", "2"), identity, "")


def test_hostile_requests(server: Any) -> None:
    good = png(digit(1))
    assert ask(server, good, **{"Content-Type": "text/plain"})[0] == 415
    assert ask(server, b'{"pixels": ', **{"Content-Type": "application/json"})[0] == 415
    assert ask(server, good, "/api/other")[0] == 404
    for path in ("/../server.py", "//server.py", "/%2e%2e/server.py", "/style.css/../../server.py"):
        assert ask(server, None, path)[0] == 404
    for host in ("evil.example", "evil.example:80", f"localhost.evil.example:{server.server_port}"):
        assert ask(server, good, Host=host)[0] == 403
        assert ask(server, None, "/", Host=host)[0] == 403
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{server.server_port}@evil.ex"):
        assert ask(server, good, Origin=origin)[0] == 403
    status, answer = ask(server, bytes(20_000_000))
    assert (status, answer["error"]) == (413, "at most 4,000,000 bytes")
    assert ask(server, good)[0] == 200


@pytest.mark.parametrize(
    "length", ["", "Content-Length: -1", "Content-Length: x", "Content-Length: \xb2",
               "Content-Length: 1e3", "Content-Length: " + "9" * 5000,
               "Transfer-Encoding: chunked"],
    ids=["none", "negative", "letter", "superscript", "float", "endless", "chunked"],
)  # fmt: skip
def test_bodies_of_unknown_length(server: Any, length: str) -> None:
    answer = raw(server, "POST /api/predict", "Content-Type: image/png", length)
    assert answer.startswith(b"HTTP/1.0 411 ")
    assert b"Content-Length is missing, or no number" in answer


@pytest.mark.parametrize("line", ["DELETE /", "PUT /api/predict"])
def test_what_is_no_request(server: Any, line: str) -> None:
    answer = raw(server, line)
    assert answer.startswith(b"HTTP/1.0 501 ")
    assert b"Content-Security-Policy" in answer
    assert b'{"error"' in answer
    for nonsense in ("nonsense", "GET / HTTP/9.9"):
        assert raw(server, nonsense).startswith(b'{"error"')


def test_a_mistake_of_ours_is_answered(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(server.answers, "about", fail)
    status, answer = ask(server, png(digit(1)))
    assert status == 500
    assert answer["error"].startswith("something went wrong")
    monkeypatch.undo()
    assert ask(server, png(digit(1)))[0] == 200


def raw(server: Any, line: str, *headers: str) -> bytes:
    """All that comes back for some lines."""
    words = line if "HTTP/" in line or " " not in line else f"{line} HTTP/1.0"
    lines = [words, f"Host: 127.0.0.1:{server.server_port}", *filter(None, headers), "", ""]
    answer = b""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode("latin-1"))
        while part := connection.recv(4096):
            answer += part
    return answer


def test_only_this_machine_is_listened_to(server: Any) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_too_many_connections_are_refused(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 2)
    with running(answers) as server:
        place = ("127.0.0.1", server.server_port)
        waiting = [socket.create_connection(place) for _ in range(2)]
        for connection in waiting:
            connection.sendall(b"GET / HT")
        with socket.create_connection(place, timeout=10) as third:
            assert third.recv(100).startswith(b"HTTP/1.0 503 ")
        for connection in waiting:
            connection.close()


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
    browser.wait_for("document.getElementById('model').textContent.includes('parameters')")
    return address


def says(text: str) -> str:
    return f"document.getElementById('answer').textContent === {json.dumps(text)}"


def test_drawing_in_a_browser(server: Any, browser: Browser, tmp_path: Path) -> None:
    address = open_page(browser, server)
    assert browser.evaluate("document.querySelectorAll('#bars .bar').length") == 3
    box = browser.evaluate(
        "JSON.stringify(document.getElementById('paper').getBoundingClientRect())"
    )
    left, top = json.loads(box)["left"], json.loads(box)["top"]
    browser.mouse("mousePressed", left + 140, top + 40)
    for step in range(1, 21):
        browser.mouse("mouseMoved", left + 140, top + 40 + 10 * step)
    browser.mouse("mouseReleased", left + 140, top + 240)
    browser.wait_for(says("It is 1"))
    assert browser.evaluate("document.querySelector('.bar.best span').textContent") == "1"
    shown = "document.querySelector('.bar.best b').getBoundingClientRect()"
    assert browser.evaluate(f"{shown}.width") > 100
    assert browser.evaluate(f"{shown}.height") > 5
    assert browser.evaluate("document.querySelectorAll('#layers canvas').length") > 20
    for name, width, dark in (("light", 1000, False), ("dark", 1000, True), ("phone", 390, False)):
        browser.screenshot(tmp_path / f"{name}.png", width, dark=dark)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
    browser.evaluate("document.getElementById('clear').click()")
    browser.wait_for(says("Nothing drawn yet"))
    assert browser.evaluate("document.querySelectorAll('#layers canvas').length") == 0
    assert browser.problems() == []
    assert all(url.startswith((address, "data:")) for url in browser.requests())


def drop(browser: Browser, content: bytes, kind: str = "image/png") -> None:
    """Drop a file on the page."""
    text = base64.b64encode(content).decode()
    browser.evaluate(
        f"""{{
        const bytes = Uint8Array.from(atob("{text}"), (letter) => letter.charCodeAt(0));
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], "picture", {{type: "{kind}"}}));
        document.dispatchEvent(new DragEvent("drop", {{dataTransfer, cancelable: true}}));
        }}"""
    )


def test_dropping_and_choosing_pictures_in_a_browser(
    server: Any, browser: Browser, tmp_path: Path
) -> None:
    open_page(browser, server)
    drop(browser, png(digit(0)))
    browser.wait_for(says("It is 0"))
    drop(browser, b"no picture at all", "text/plain")
    browser.wait_for(says("That is no picture that this browser can read"))
    # A photograph larger than the server takes: the page makes it smaller.
    noise = np.random.default_rng(0).integers(190, 256, (2800, 2100), dtype=np.uint8)
    photograph = png(np.minimum(np.kron(digit(2), np.ones((7, 7), np.uint8)), noise))
    assert len(photograph) > server_module.MAX_BODY
    drop(browser, photograph)
    browser.wait_for(says("It is 2"))
    (tmp_path / "one.png").write_bytes(png(digit(1)))
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(tmp_path / "one.png")])
    browser.wait_for(says("It is 1"))
    assert browser.problems() == []


def test_coloured_pictures_in_a_browser(browser: Browser) -> None:
    model = fastcnn.models.resnet8(seed=0)
    classes = tuple(f"kind {number}" for number in range(10))
    red = np.zeros((40, 60, 3), np.uint8)
    red[..., 0] = 250
    with running(Answers(model, classes, data.Normalisation.identity(3), "colours")) as server:
        open_page(browser, server)
        assert browser.evaluate("document.getElementById('title').textContent") == (
            "Draw or drop a picture"
        )
        drop(browser, png(red))
        browser.wait_for("document.getElementById('answer').textContent.startsWith('It is kind')")
        seen = browser.evaluate(
            "{const seen = document.getElementById('seen'); [seen.width, seen.height, "
            "...seen.getContext('2d').getImageData(16, 16, 1, 1).data].join()}"
        )
        assert seen == "32,32,250,0,0,255"
        assert browser.problems() == []
