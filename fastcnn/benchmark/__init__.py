"""Measuring: peaks of the machine, layers, whole steps, and other libraries next to them."""
