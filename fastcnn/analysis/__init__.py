"""Checking and understanding: gradient checks, backends side by side, metrics and pictures."""
