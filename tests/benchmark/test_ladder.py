"""The ladder from nested loops to the engine."""

import ast

import numpy as np
import pytest

from fastcnn.benchmark import ladder, ladder_rungs
from fastcnn.benchmark.figures import ladder_figure
from fastcnn.benchmark.results import Result
from fastcnn.training.figure import png, theme

pytestmark = pytest.mark.usefixtures("own_kernels")


@pytest.fixture(scope="module")
def climbed() -> list[Result]:
    return ladder.bench_ladder(threads=(1, 2), rounds=2, seconds=1e-4)


def test_every_rung_agrees_with_the_reference_and_is_timed(climbed: list[Result]) -> None:
    assert [row.contestant for row in climbed] == [
        *(rung.name for rung in ladder.RUNGS),
        ladder.RUNGS[-1].name,
    ]
    for row in climbed:
        assert row.rounds, row.note
        assert row.difference is not None
        assert row.difference < 1e-5
        assert row.share is not None
    assert climbed[0].ratio == 1.0
    assert [row.threads for row in climbed][-2:] == [1, 2]


def test_the_code_of_a_rung_fits_a_terminal() -> None:
    for rung in ladder.RUNGS:
        assert max(map(len, rung.source().splitlines())) <= 76, rung.name


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.84, "84%"), (0.0996, "10%"), (0.095, "10%"), (0.094, "9%"), (0.00042, "0.04%")],
)
def test_percent(share: float, text: str) -> None:
    assert ladder.percent(share) == text


@pytest.mark.parametrize("function", [rung.function for rung in ladder.RUNGS if rung.function])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_rungs_compute_convolutions_of_any_odd_kernel(function: str, kernel: int) -> None:
    generator = np.random.default_rng(kernel)
    shapes = (3, 4, 6, 5), (3, 2, 6, 5), (4, 2, kernel, kernel)
    dy, x, w = (generator.standard_normal(shape) for shape in shapes)
    got = getattr(ladder_rungs, function)(dy, x, w, kernel // 2)
    expected = ladder.F.conv2d_backward(dy, x, w, padding=kernel // 2, backend="reference")
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_wrong_rung_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(
        dy: np.ndarray, x: np.ndarray, w: np.ndarray, p: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        dx, dw, db = ladder_rungs.im2col_with_numba(dy, x, w, p)
        return dx, dw[:, :, ::-1], db

    monkeypatch.setattr(ladder_rungs, "im2col_in_numpy", wrong)
    rows = {row.contestant: row for row in ladder.bench_ladder(rounds=1, seconds=1e-4)}
    assert rows["im2col in numpy"].rounds == 0
    assert rows["im2col in numpy"].note.startswith("not timed: differs by")
    assert rows["the engine"].rounds == 1
    assert "not timed" in ladder.ladder_table(list(rows.values()))


def test_the_code_of_a_rung_is_short_python() -> None:
    for rung in ladder.RUNGS:
        code = rung.source()
        ast.parse(code)
        assert 1 <= len(code.splitlines()) <= 40
        assert "np.ndarray" not in code
    assert ladder.RUNGS[1].source() == "jitted_loops = njit(loops)"
    assert "emit_fma" in ladder.RUNGS[-1].source()


def test_table_and_figure_name_every_rung(climbed: list[Result]) -> None:
    text = ladder.ladder_table(climbed, show=True)
    for rung in ladder.RUNGS:
        assert rung.name in text
        assert rung.source().splitlines()[0] in text
    assert max(map(len, ladder.ladder_table(climbed).splitlines())) <= 80
    with theme("dark"):
        dark = png(ladder_figure(climbed))
    assert dark != png(ladder_figure(climbed))
