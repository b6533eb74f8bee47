"""Headless Chromium, driven over its DevTools protocol."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-allow-origins=*", "--remote-debugging-port=0", "about:blank",
)  # fmt: skip


class Browser:
    """One page of a browser; all its messages and requests are recorded."""

    def __init__(self, profile: Path) -> None:
        from websockets.sync.client import connect

        assert CHROMIUM is not None
        self._opened = ExitStack()
        self.process = subprocess.Popen(
            [CHROMIUM, f"--user-data-dir={profile}", *FLAGS],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        port_file = profile / "DevToolsActivePort"
        for _ in range(1200):
            if port_file.exists() and port_file.read_text().count("\n") >= 1:
                break
            time.sleep(0.1)
        port = port_file.read_text().split("\n")[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as reply:
            pages = [page for page in json.load(reply) if page["type"] == "page"]
        self.socket = self._opened.enter_context(
            connect(pages[0]["webSocketDebuggerUrl"], max_size=None)
        )
        self.count = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=120))
            if message.get("id") == self.count:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true."""
        for _ in range(2400):
            if self.evaluate(expression):
                return
            time.sleep(0.05)
        raise AssertionError(f"never true: {expression}; the page says: {self.problems()}")

    def problems(self) -> list[str]:
        """Errors that the page or the browser reported."""
        return [
            json.dumps(event["params"])[:500]
            for event in self.events
            if event.get("method") == "Runtime.exceptionThrown"
            or (
                event.get("method") == "Log.entryAdded"
                and event["params"]["entry"]["level"] == "error"
            )
        ]

    def requests(self) -> list[str]:
        """Addresses that the page requested."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def mouse(self, kind: str, x: float, y: float) -> None:
        """A mouse event."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def give(self, content: bytes, kind: str = "image/png", *, paste: bool = False) -> None:
        """Drop a file on the page, or paste it."""
        text = base64.b64encode(content).decode()
        event = (
            'new ClipboardEvent("paste", {clipboardData: dataTransfer})'
            if paste
            else 'new DragEvent("drop", {dataTransfer, cancelable: true})'
        )
        self.evaluate(
            f"""{{
            const bytes = Uint8Array.from(atob("{text}"), (letter) => letter.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], "picture", {{type: "{kind}"}}));
            document.dispatchEvent({event});
            }}"""
        )

    def choose(self, path: Path) -> None:
        """Choose a file with the page's ``#file``."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def wait_for_answer(self, text: str) -> None:
        """Wait until ``#answer`` has a text."""
        self.wait_for(f"document.getElementById('answer').textContent === {json.dumps(text)}")

    def check_widths(self, folder: Path) -> None:
        """Save the page in a light and a dark scheme and on a phone; it scrolls down only."""
        for name, width in (("light", 1000), ("dark", 1000), ("phone", 390)):
            self.screenshot(folder / f"{name}.png", width, dark=name == "dark")
            assert self.evaluate("document.documentElement.scrollWidth") <= width

    def screenshot(
        self, path: Path, width: int = 1000, height: int = 900, dark: bool = False
    ) -> None:
        """Save the page as an image."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                  deviceScaleFactor=1, mobile=width < 500)  # fmt: skip
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """Close the browser."""
        self._opened.close()
        self.process.terminate()
        self.process.wait(timeout=120)
