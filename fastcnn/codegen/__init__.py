"""Compilation: functions compiled by numba to object files, cached, and loaded without numba.

A function that compiled code calls is declared by :func:`linked`; one that Python calls with arrays
by :func:`compiled`; the engine builds its kernels from linked functions. Mathematical functions
shared by numbers, numpy arrays and the engine's vectors are in elementary.py.
"""

from fastcnn.codegen.declarations import Elementary, Emitted, linked
from fastcnn.codegen.functions import Compiled, compiled

__all__ = ["Compiled", "Elementary", "Emitted", "compiled", "elementary", "linked"]
