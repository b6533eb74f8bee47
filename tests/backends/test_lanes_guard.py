"""The engine accesses nothing outside its arrays: it runs between unreadable guard pages."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastcnn.backends.lanes.planning.bands import Banded
from fastcnn.backends.lanes.planning.buffers import LANES
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.backends.lanes.session.batches import Batches
from fastcnn.execution import loss_and_gradients
from fastcnn.execution.engines import make_engine
from fastcnn.layers import Flatten, Linear, Sequential

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs mprotect, which is POSIX's")
ROOT = Path(__file__).parents[2]


def run_between_guard_pages(*options: str) -> str:
    """Run networks in a separate process; a failure names the last one that began."""
    command = [sys.executable, "-m", "tests.guard_pages", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stdout[max(done.stdout.rfind("\nend: "), done.stdout.rfind("\nbegin: ")) :]
    assert done.returncode == 0, f"status {done.returncode} at:\n{last}\n{done.stderr}"
    return done.stdout


@POSIX
@pytest.mark.parametrize("place", ["end", "begin"])
def test_random_networks_stay_inside_their_arrays(place: str) -> None:
    assert "'networks': 30" in run_between_guard_pages("--count", "30", "--place", place)


@POSIX
@pytest.mark.parametrize("convolution", ["winograd2d_batch", "direct_batch"])
def test_convolutions_over_many_blocks_stay_inside_their_arrays(convolution: str) -> None:
    options = ("--count", "10", "--convolution", convolution)
    assert "'networks': 20" in run_between_guard_pages(*options)


@pytest.mark.parametrize("entries", [1, 3, 12, 16, 20])
def test_a_table_of_few_entries_fills_a_tile(entries: int) -> None:
    """Winograd's weight transforms read 16 entries at a time, even for fewer kernel rows."""
    graph = Sequential(Flatten(), input_shape=(1, 1, 1)).graph()
    planner = Planner(Banded(graph), 1, {}, 1, backward=False, training=False)
    first = planner.table(np.arange(entries) + 5, LANES)
    table = np.concatenate(planner.tables)[first:]
    assert len(table) >= -(-entries // LANES) * LANES
    assert set(table) == set(range(5, 5 + entries))


def test_one_byte_is_an_image() -> None:
    """An image of one byte is not mistaken for a missing image."""
    model = Sequential(Flatten(), Linear(1, 2, seed=0), input_shape=(1, 1, 1))
    for count in (1, 4):
        x = np.full((count, 1, 1, 1), 200, np.uint8)
        engine = make_engine(model, model.graph(), count, 1, outputs=True)
        outputs = np.empty(2 * count, np.float32)
        engine.run(Batches(x, np.arange(count), outputs=outputs))
        weight, bias = model.parameter_vector[:2], model.parameter_vector[2:]
        np.testing.assert_allclose(outputs[:2], 200 * weight + bias, rtol=1e-6)


def test_one_probability_is_a_target() -> None:
    """A network with one output and a batch of one has a target of one element."""
    model = Sequential(Flatten(), Linear(3, 1, seed=0), input_shape=(3, 1, 1))
    x, y = np.ones((1, 3, 1, 1), np.float32), np.ones((1, 1), np.float32)
    values = [loss_and_gradients(model, x, y, backend=name)[0] for name in ("im2col", "lanes")]
    assert values[0] == values[1] == 0


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("place", ["end", "begin"])
def test_many_random_networks_stay_inside_their_arrays(place: str) -> None:
    run_between_guard_pages("--first", "1000", "--count", "1000", "--place", place)


@POSIX
def test_a_read_outside_is_noticed() -> None:
    """A vector that begins at an array's last float ends the process."""
    program = (
        "import numpy as np, os; from tests.guard_pages import guarded\n"
        "for at_end, step in ((True, 1), (False, -1)):\n"
        "    a = guarded(np.ones(3, np.float32), at_end)[::step]\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        np.lib.stride_tricks.as_strided(a, (4,)).sum()\n"
        "        os._exit(0)\n"
        "    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
