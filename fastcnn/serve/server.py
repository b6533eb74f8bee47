"""A small HTTP server for this machine only."""

import contextlib
import json
import logging
import os
import re
import select
import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from fastcnn.errors import DataError
from fastcnn.interop.html_page.drawing import drawing_page, part, title_of
from fastcnn.serve.answers import Answers, ClientGoneError

log = logging.getLogger("fastcnn.serve")

#: Most bytes of a request's body, seconds to receive it, and simultaneous connections.
MAX_BODY, MAX_SECONDS, MAX_CONNECTIONS = 4_000_000, 10.0, 32
#: Bytes of a refused body that are still read: a client does not see the answer while sending.
MAX_IGNORED = 64_000_000
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def make_server(answers: Answers, port: int = 0) -> "PageServer":
    """A server on 127.0.0.1; ``serve_forever`` runs it, ``server_port`` is its port.

    Parameters
    ----------
    answers : Answers
    port : int
        0 for any free port.

    Raises
    ------
    OSError
        If the port is taken.
    """
    return PageServer(answers, port)


class PageServer(ThreadingHTTPServer):
    """Serves one network's page; each connection has a thread."""

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # on Windows another program could take the port over
    request_queue_size = 64  # more than the default of five pages may open at the same time

    def __init__(self, answers: Answers, port: int) -> None:
        self.answers = answers
        self.pages = _pages(answers)
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(("127.0.0.1", port), _Handler)
        # Other host names would let a foreign page reach this server (DNS rebinding).
        names = ("127.0.0.1", "localhost")
        self.hosts = {f"{name}:{self.server_port}" for name in names}
        if self.server_port == 80:  # omitted by browsers
            self.hosts.update(names)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread, or refuse if there are too many."""
        if not self._places.acquire(blocking=False):
            request.sendall(b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle one connection, and free its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log only; a client that disconnected is not an error."""
        log.debug("connection of %s ended", client_address, exc_info=True)


def _pages(answers: Answers) -> dict[str, tuple[str, str]]:
    """Texts of the page and its parts, and their kinds."""
    rule, classes = answers.pictures, answers.classes
    facts = {
        "classes": classes,
        "shape": rule.shape,
        "result": "classes",
        "pictures": rule.to_dict(),
    }
    own = (files("fastcnn.serve") / "server.js").read_text(encoding="utf-8")
    script = ('"use strict";\n', f"const MODEL = {json.dumps(facts)};\n", part("page.js"), own)
    page = drawing_page(
        rule,
        classes,
        answers.model.num_parameters,
        title=title_of(rule, classes),
        name=f"{answers.name}: ",
        policy="",
        style='<link rel="stylesheet" href="style.css">',
        scripts='<script src="app.js"></script>',
        footer="The network runs on a server on this machine.",
    )
    return {
        "/": (page, "html"),
        "/style.css": (part("style.css"), "css"),
        "/app.js": ("\n".join(script), "javascript"),
    }


def _hang_up(request: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may already have ended
        request.shutdown(socket.SHUT_RDWR)


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    #: Seconds in which a part must be received, and the answer sent.
    timeout = 5.0
    server_version, sys_version = "fastcnn", ""

    def setup(self) -> None:
        """Hang up after :data:`MAX_SECONDS`, unless the request has been received by then."""
        super().setup()
        self._limit = threading.Timer(MAX_SECONDS, _hang_up, (self.connection,))
        self._limit.daemon = True
        self._limit.start()

    def finish(self) -> None:
        """End the time limit of a request that was refused."""
        self._limit.cancel()
        super().finish()

    def do_GET(self) -> None:
        """Serve the page, its parts, and the network's description."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Predictions."""
        self._answer(self._post)

    def _answer(self, make: Any) -> None:
        self._is_read = False
        try:
            if self.headers.get("Host") not in self.server.hosts:
                raise _Refused(HTTPStatus.FORBIDDEN, "this server only answers its own page")
            origin = self.headers.get("Origin")
            if origin is not None and origin.removeprefix("http://") not in self.server.hosts:
                raise _Refused(HTTPStatus.FORBIDDEN, "request from another page")
            content, kind = make()
            self._send(HTTPStatus.OK, content, kind)
        except _Refused as refused:
            self._send_json(refused.status, {"error": str(refused)})
        except DataError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except ClientGoneError:
            return
        except OSError:  # the client is gone
            raise
        except Exception:
            log.exception("no answer to %s", self.requestline)
            message = "something went wrong: see the server's log"
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": message})
        self._ignore_body()

    def _get(self) -> tuple[bytes, str]:
        path = self.path.partition("?")[0]
        if path in self.server.pages:
            text, kind = self.server.pages[path]
            return text.encode(), f"text/{kind}; charset=utf-8"
        if path == "/api/model":
            return _json(self.server.answers.describe())
        raise _Refused(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _post(self) -> tuple[bytes, str]:
        path, _, query = self.path.partition("?")
        if path != "/api/predict":
            raise _Refused(HTTPStatus.NOT_FOUND, "there is nothing here")
        if not (self.headers.get("Content-Type") or "").startswith("image/"):
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send a picture (image/png)")
        began = time.perf_counter()
        body, maps = self._body(), "maps=1" in query.split("&")
        answer = self.server.answers.about(body, maps, self._is_gone)
        answer["milliseconds"] = 1e3 * (time.perf_counter() - began)
        return _json(answer)

    def _is_gone(self) -> bool:
        """Whether the client has disconnected."""
        try:
            ready, _, _ = select.select([self.connection], [], [], 0)
            return bool(ready) and not self.connection.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True

    def _body(self) -> bytes:
        length = self._length()
        if length is None:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing or not a number")
        if length > MAX_BODY:
            message = f"at most {MAX_BODY:,} bytes"
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        content = self.rfile.read(length)
        self._is_read = True
        self._limit.cancel()  # computing the answer may take longer
        if len(content) < length:
            raise _Refused(HTTPStatus.BAD_REQUEST, "the picture ended too early")
        return content

    def _length(self) -> int | None:
        """Bytes of the body, if given by the request in a reasonable number of digits."""
        text = self.headers.get("Content-Length", "")
        # int() refuses other digits, such as a superscript two.
        return int(text) if re.fullmatch("[0-9]{1,18}", text) else None

    def _ignore_body(self) -> None:
        """Drain what a refused client still sends, up to a limit."""
        rest = 0 if self._is_read else min(self._length() or 0, MAX_IGNORED)
        self.wfile.flush()
        with contextlib.suppress(OSError):  # the client may be gone, or too slow
            while rest > 0:
                part = self.rfile.read(min(rest, 1 << 16))
                if not part:
                    break
                rest -= len(part)

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_json(self, status: HTTPStatus, value: Any) -> None:
        self._send(status, *_json(value))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer the base class's errors: an unknown method, or an invalid request."""
        self._send_json(HTTPStatus(code), {"error": message or HTTPStatus(code).phrase})

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are not logged."""
        log.debug(format, *arguments)


def _json(value: Any) -> tuple[bytes, str]:
    return json.dumps(value).encode(), "application/json"
