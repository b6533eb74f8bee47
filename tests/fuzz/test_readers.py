"""Damaged files: every reader refuses them with a fastcnn error, in 2 GB and 10 seconds.

``FASTCNN_FUZZ=5000 pytest tests/fuzz`` tries 5,000 inputs per reader; ``FASTCNN_FUZZ_SEED`` sets
the seed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastcnn.errors import DataError
from tests.fuzz.attack import attack
from tests.fuzz.registry import Reader, all_readers

COUNT = int(os.environ.get("FASTCNN_FUZZ", "60"))
SEED = int(os.environ.get("FASTCNN_FUZZ_SEED", "0"))
ROOT = Path(__file__).parents[2]


#: Readers per process, as starting one takes longer than reading some small files.
SHARED = 8


@pytest.mark.parametrize("first", range(0, len(all_readers()), SHARED))
def test_damaged_files_are_refused(first: int) -> None:
    names = sorted(all_readers())[first : first + SHARED]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.attack", str(SEED), str(COUNT), *names],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | one_thread, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1:]} {done.stderr[-3000:]}"
    found = [json.loads(line) for line in lines]
    failures = [one for one in found if "error" in one]
    said = (f"{one['reader']}: {one['error']}\n{one.get('at', '')}" for one in failures[:5])
    assert not failures, "\n".join(said)
    assert [counts["reader"] for counts in found] == names
    for counts in found:
        assert counts["refused"] > 0, f"{counts['reader']}: the samples are not what is read"


def test_the_fuzzer_finds_faults() -> None:
    def read(path: Path) -> None:
        content = path.read_bytes()
        if len(content) < 64:
            raise DataError("too short")
        {0: None}[content[0]]

    found: list[dict[str, Any]] = []
    reader = Reader("planted", lambda: [bytes(64)], read, "x")
    counts = attack(reader, 0, 200, found.append)
    assert counts["failed"] == len(found) > 0
    assert min(counts.values()) > 0
    assert all(one["error"].startswith("KeyError") for one in found)
    again: list[dict[str, Any]] = []
    attack(reader, 0, 200, again.append)
    assert found == again


def test_a_refused_sample_is_a_failure() -> None:
    def refuse(path: Path) -> None:
        raise DataError("no")

    found: list[dict[str, Any]] = []
    assert attack(Reader("x", lambda: [b"a"], refuse, "x"), 0, 0, found.append)["failed"] == 1
