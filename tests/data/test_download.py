"""Downloads: from the first mirror with the correct file, with a progress bar if requested."""

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastcnn.data import sources

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """The address of a local server that has one file."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "x.gz").write_bytes(CONTENT)
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served")
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("progress", [False, True])
def test_a_file_is_fetched(mirror: str, tmp_path: Path, progress: bool) -> None:
    target = tmp_path / "kept" / "x.gz"
    digest = hashlib.sha256(CONTENT).hexdigest()
    sources._fetch(f"{mirror}x.gz", target, f"sha256:{digest}", progress)
    assert target.read_bytes() == CONTENT


def test_another_file_is_refused(mirror: str, tmp_path: Path) -> None:
    target = tmp_path / "kept" / "x.gz"
    with pytest.raises(ValueError, match="hash"):
        sources._fetch(f"{mirror}x.gz", target, f"sha256:{'0' * 64}", True)
    assert not target.exists()
