"""A clock under the tests' control, shared by tests of measurements."""

from tests.benchmark.conftest import clock, no_rest, peak

__all__ = ["clock", "no_rest", "peak"]
