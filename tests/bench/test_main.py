"""``python -m bench``, as run to generate the pages."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: object, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=300,
    )
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    return output


def test_scaling(tmp_path: Path) -> None:
    out = tmp_path / "b"
    output = bench("scaling", "--axis", "batch", "--axis", "threads", "--quick", "--out", out)
    assert "Batch size, the report's network (lanes)" in output
    written = json.loads((out / "scaling.json").read_text())
    assert written["quick"]
    assert written["command"].startswith("python -m bench scaling --axis batch")
    assert [r["value"] for r in written["records"] if r["axis"] == "batch"] == [1, 16, 64, 256]
    assert written["environment"]["instruction set"]
    assert (out / "scaling.png").stat().st_size > 10_000


def test_errors() -> None:
    assert "no axis named 'width'" in bench("scaling", "--axis", "width", code=2)
    assert "--axis has no effect" in bench("step", "--axis", "batch", code=2)
