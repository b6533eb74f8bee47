"""Skips tests of other libraries that do not work on this machine, whatever is installed."""

import pytest

from fastcnn.benchmark.environment import TRIALS, why_absent


def skip_absent(contestant: str) -> None:
    """Skip a test if a contestant's library does not work, with the reason."""
    for library in TRIALS:
        if contestant.startswith(library) and (reason := why_absent(library)):
            pytest.skip(f"{library} takes no part: {reason}")
