"""Functional forms: their ``help`` texts, and calls that they refuse."""

import inspect

import numpy as np
import pytest

from fastcnn import functional
from fastcnn.errors import ShapeError
from fastcnn.operations.forms import sections_of


@pytest.mark.parametrize("name", functional.__all__)
def test_help_names_each_parameter_what_is_returned_and_errors(name: str) -> None:
    form = getattr(functional, name)
    sections = sections_of(form.__doc__)
    described = {
        each.strip(" *")
        for line in sections["Parameters"].splitlines()
        if not line.startswith(" ")
        for each in line.split(" : ")[0].split(",")
    }
    assert described == set(inspect.signature(form).parameters)
    assert all(f"\n\n{title}\n---" in form.__doc__ for title in ("Returns", "Raises"))
    assert "ndarray" in sections["Returns"] or sections["Returns"].startswith("float")


def test_a_gradient_says_the_parts_of_its_result_and_the_shapes_it_takes() -> None:
    assert functional.linear_backward.__doc__ is not None
    sections = sections_of(functional.linear_backward.__doc__)
    assert "weight : array_like, shape (out_features, in_features)" in sections["Parameters"]
    assert sections["Returns"].startswith("grad_x, grad_weight, grad_bias : ndarray")


def test_a_gradient_names_shapes_that_do_not_fit() -> None:
    x, weight = np.ones((2, 1, 2, 2), np.float32), np.ones((1, 1, 3, 3), np.float32)
    with pytest.raises(ShapeError, match=r"^conv2d_backward: x \(2, 1, 2, 2\) and weight"):
        functional.conv2d_backward(x, x, weight)
