"""Measuring: peaks of the machine, layers, whole steps, and peers beside them."""
