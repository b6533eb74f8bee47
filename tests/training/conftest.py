"""Fixtures shared by tests of training."""

import pytest

from fastcnn.training import curves


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no curves, which takes longer than their training."""
    monkeypatch.setattr(curves, "curves_png", lambda history: None)
