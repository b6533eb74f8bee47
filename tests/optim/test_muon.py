"""Muon: its matrices, compared with PyTorch's and with a singular value decomposition."""

from typing import Any

import numpy as np
import pytest

from fastcnn.errors import ConfigurationError
from fastcnn.optim import SGD, AdamW, Muon
from fastcnn.optim.muon import orthogonalised

SHAPES = [(4, 7), (7, 4), (5, 5), (1, 6), (6, 1), (20, 33)]


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).standard_normal(shape)
    made = orthogonalised(matrix, 12, (1.5, -0.5, 0.0), 1e-7)  # the cubic iteration converges
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    assert made == pytest.approx(u @ v, abs=0.05)
    values = np.linalg.svd(orthogonalised(matrix, 5, Muon.ns_coefficients, 1e-7))[1]
    assert ((values > 0.4) & (values < 1.4)).all()


@pytest.mark.torch
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "arguments",
    [
        {"lr": 0.1, "weight_decay": 0.0},
        {"lr": 0.1, "weight_decay": 0.5, "momentum": 0.6, "ns_steps": 3},
        {"lr": 0.1, "weight_decay": 0.1, "nesterov": False, "adjust_lr_fn": "match_rms_adamw"},
    ],
)
def test_against_torch(
    shape: tuple[int, int], arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch multiplies in bfloat16, with three digits, unless this is disabled."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.double())
    generator = np.random.default_rng(1)
    ours = generator.standard_normal(shape).astype(np.float32)
    theirs = torch.nn.Parameter(torch.from_numpy(ours.copy()))
    optimizer, reference = Muon(**arguments), torch.optim.Muon([theirs], **arguments)
    slots = {"momentum_buffer": np.zeros_like(ours)}
    for step in range(1, 4):
        gradient = generator.standard_normal(shape).astype(np.float32)
        optimizer.update(ours, gradient, slots, optimizer.lr, step)
        theirs.grad = torch.from_numpy(gradient.copy())
        reference.step()
        assert ours == pytest.approx(theirs.detach().numpy(), rel=1e-4, abs=1e-5)


def test_weights_of_a_fixed_norm() -> None:
    weight = np.full((3, 2, 2, 2), 5.0)
    slots = {"momentum_buffer": np.zeros_like(weight)}
    made = Muon(lr=0.0, normalize_weight=True, weight_decay=3.0)
    made.update(weight, np.ones_like(weight), slots, 0.0, 1)
    assert np.linalg.norm(weight) == pytest.approx(3**0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ns_steps": 2.5}, "ns_steps must be an integer"),
        ({"ns_steps": -1}, "ns_steps must be at least 0"),
        ({"ns_coefficients": (1.0, 2.0)}, "ns_coefficients must be 3 numbers"),
        ({"adjust_lr_fn": "sqrt"}, "adjust_lr_fn must be one of original, match_rms_adamw, none"),
        ({"others": Muon()}, "others must be an element-wise optimiser"),
        ({"others": 3}, "others must be an element-wise"),
        ({"momentum": 1.0}, "momentum must be at least 0"),
    ],
)
def test_bad_input(arguments: dict[str, Any], message: str) -> None:
    assert Muon().others == AdamW(lr=1e-3)
    assert Muon(others=SGD()).others == SGD()
    with pytest.raises(ConfigurationError, match=message):
        Muon(**arguments)
