"""Tests of measurements share a clock that they set."""

from tests.benchmark.conftest import clock, no_rest, peak

__all__ = ["clock", "no_rest", "peak"]
