"""One function of many parts, compiled as a whole."""

import numpy as np
import pytest
from numba import njit

from fastcnn.backends.lanes import late_codegen


@njit(nogil=True)
def part(x):  # type: ignore[no-untyped-def]
    return np.sqrt(x.max()) + x[0]


@njit(nogil=True)
def whole(x):  # type: ignore[no-untyped-def]
    return part(x) + part(2 * x)


def test_the_whole_runs_and_numba_goes_on() -> None:
    with late_codegen.only_for("whole"):
        whole.compile("float64(float64[::1])")
    x = np.array([1.0, 4.0])
    assert whole(x) == pytest.approx(3 + np.sqrt(8) + 2)
    with pytest.raises(TypeError):
        part(x)

    @njit
    def later(x):  # type: ignore[no-untyped-def]
        return np.sqrt(x.max()) + np.sort(x)[0]

    assert later(x) == 3


def test_numba_is_as_it_was_after_an_error() -> None:
    with pytest.raises(RuntimeError), late_codegen.only_for("whole"):
        raise RuntimeError
    assert njit(lambda x: x + 1)(2) == 3
