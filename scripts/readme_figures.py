"""Draw the figures of README.md from a run.

``.venv/bin/fastcnn train --out runs/readme`` and then
``.venv/bin/python scripts/readme_figures.py runs/readme``.
"""

import argparse
import json
import sys
from pathlib import Path

from fastcnn.files import atomic_write
from fastcnn.training import History
from fastcnn.training.curves import curves_png

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"


def read_history(metrics: Path) -> History:
    """The history that a run's ``metrics.jsonl`` records."""
    history = History()
    for line in metrics.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        (history.steps if record["kind"] == "step" else history.epochs).append(record)
    return history


def main() -> None:
    """Write ``docs/images/curves.png``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    metrics = parser.parse_args().run / "metrics.jsonl"
    if not metrics.is_file():
        sys.exit(f"{metrics} does not exist: give the folder of a run")
    history = read_history(metrics)
    if not history.epochs:
        sys.exit(f"{metrics} holds no finished epoch")
    IMAGES.mkdir(parents=True, exist_ok=True)
    content = curves_png(history)
    assert content is not None
    atomic_write(IMAGES / "curves.png", content)


if __name__ == "__main__":
    main()
