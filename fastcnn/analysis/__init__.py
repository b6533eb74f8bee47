"""Checks and analysis: gradient checks, comparison of backends, metrics and figures."""
