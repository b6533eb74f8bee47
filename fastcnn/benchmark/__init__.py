"""Benchmarks: the machine's peaks, single layers, whole steps, and other libraries for comparison.

The room of ``fastcnn bench`` and ``fastcnn profile``.
"""
