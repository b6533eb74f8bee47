"""The server: its answers, hostile input, and many clients."""

import json
import os
import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.data import read_picture
from fastcnn.errors import DataError
from fastcnn.serve import Answers
from fastcnn.serve import answers as answers_module
from fastcnn.serve import server as server_module
from tests.data.test_pictures import REFUSED
from tests.serve.conftest import digit, png, running


def ask(
    server: Any, content: bytes | None, path: str = "/api/predict", **headers: str
) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.server_port}{path}", content,
        {"Content-Type": "image/png", **headers},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=200) as reply:
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


def test_hostile_pictures(server: Any) -> None:
    good = png(digit(1))
    for content, _ in REFUSED.values():
        status, answer = ask(server, content)
        assert status == 400, content[:20]
        assert answer["error"]
    status, answer = ask(server, png(np.zeros((2001, 2000), np.uint8)))
    assert (status, "too many" in answer["error"]) == (400, True)
    assert ask(server, good)[0] == 200


def test_networks_that_cannot_be_asked(answers: Answers) -> None:
    model, rule = fastcnn.models.report_cnn(seed=0), answers.model.preprocessing
    with pytest.raises(DataError, match=r"gives \(3,\), not one number for each class"):
        Answers(model, ("0", "1"), rule, "")
    flat = fastcnn.Sequential(fastcnn.Linear(4, 2), input_shape=(4,))
    with pytest.raises(DataError, match=r"shape \(4,\), which are not pictures"):
        Answers(flat, ("0", "1"), flat.preprocessing, "")
    x, other = fastcnn.Input((1, 4, 4)), fastcnn.Input((1, 4, 4))
    pair = [fastcnn.Linear(16, 1)(fastcnn.Flatten()(each)) for each in (x, other)]
    both = fastcnn.Linear(2, 2)(fastcnn.Concat()(*pair))
    for several in (fastcnn.Model([x, other], both), fastcnn.Model(x, [pair[0], pair[0]])):
        with pytest.raises(DataError, match="several inputs or outputs cannot be shown"):
            Answers(several, ("0", "1"), rule, "")
    model.parameter_vector[7] = np.nan
    with pytest.raises(DataError, match="not finite"):
        Answers(model, ("0", "1", "2"), rule, "")


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
    assert b"Content-Length is missing or not a number" in answer


@pytest.mark.parametrize("line", ["DELETE /", "PUT /api/predict"])
def test_what_is_no_request(server: Any, line: str) -> None:
    answer = raw(server, line)
    assert answer.startswith(b"HTTP/1.0 501 ")
    assert b"Content-Security-Policy" in answer
    assert b'{"error"' in answer
    for nonsense in ("nonsense", "GET / HTTP/9.9"):
        assert b'{"error"' in raw(server, nonsense)  # older Python sends no headers


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
    """Everything that is received after sending some lines."""
    words = line if "HTTP/" in line or " " not in line else f"{line} HTTP/1.0"
    lines = [words, f"Host: 127.0.0.1:{server.server_port}", *filter(None, headers), "", ""]
    answer = b""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=200) as connection:
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
        with socket.create_connection(place, timeout=200) as third:
            assert third.recv(100).startswith(b"HTTP/1.0 503 ")
        for connection in waiting:
            connection.close()


def test_slow_clients_are_hung_up(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_SECONDS", 0.3)
    slow = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(5)]
    for connection in slow:
        connection.sendall(b"GET / HT")
    for connection in slow:
        connection.settimeout(100)  # before the time that clients have otherwise
        assert connection.recv(10) == b""
        connection.close()
    monkeypatch.undo()
    assert ask(server, png(digit(2)))[0] == 200


def test_an_answer_may_take_longer_than_its_request(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All time limits end while the answer is computed."""
    limits: list[threading.Timer] = []

    def start(limit: threading.Timer) -> None:
        limits.append(limit)

    def about(*arguments: Any) -> Any:
        for limit in limits:
            if not limit.finished.is_set():
                limit.function(*limit.args)
        return answer_about(*arguments)

    answer_about = server.answers.about
    monkeypatch.setattr(threading.Timer, "start", start)
    monkeypatch.setattr(server.answers, "about", about)
    assert ask(server, png(digit(1)))[1]["class"] == "1"
    assert len(limits) == 1


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


def test_pictures_of_clients_that_have_gone_are_dropped(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one picture is read, other clients wait, of which only one stays."""
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def read(content: bytes, *_: Any, **__: Any) -> Any:
        seen.append(content)
        begun.set()
        assert go_on.wait(200)
        return read_picture(content, answers.pictures)

    def about(*arguments: Any) -> Any:
        entered.release()
        return answer_about(*arguments)

    entered, answer_about = threading.Semaphore(0), answers.about
    monkeypatch.setattr(answers, "about", about)
    monkeypatch.setattr(answers_module, "read_picture", read)
    monkeypatch.setattr(answers, "_workers", ThreadPoolExecutor(1))
    pictures = {label: png(digit(label)) for label in (0, 1, 2)}
    with running(answers) as server:
        first = posted(server, pictures[0])
        assert begun.wait(200)
        gone = [posted(server, pictures[1]) for _ in range(5)]
        for _ in range(6):
            assert entered.acquire(timeout=200)
        for connection in gone:
            connection.close()
        last = posted(server, pictures[2])
        go_on.set()
        for connection in (first, last):
            answer = b""
            while part := connection.recv(65536):
                answer += part
            assert answer.startswith(b"HTTP/1.0 200 ")
            connection.close()
    assert seen == [pictures[0], pictures[2]]


def posted(server: Any, content: bytes) -> socket.socket:
    """A connection on which a picture has been sent."""
    connection = socket.create_connection(("127.0.0.1", server.server_port), timeout=200)
    connection.sendall(
        f"POST /api/predict HTTP/1.0\r\nHost: 127.0.0.1:{server.server_port}\r\n"
        f"Content-Type: image/png\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        + content
    )
    return connection


def test_an_address_is_not_taken_over_on_windows() -> None:
    assert server_module.PageServer.allow_reuse_address == (os.name != "nt")


def test_large_pictures_at_once_take_little_memory(server: Any) -> None:
    """Pictures of the maximum size, from many clients."""
    import tracemalloc

    large = png(np.zeros((2000, 2000, 3), np.uint8))
    assert ask(server, large)[0] == 200
    codes: list[int] = []
    tracemalloc.start()
    threads = [
        threading.Thread(target=lambda: codes.append(ask(server, large)[0])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert codes == [200] * 8
    assert peak < 60e6  # of numpy and Python; two pictures of 2000 x 2000 have 24 MB
