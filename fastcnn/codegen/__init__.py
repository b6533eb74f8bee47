"""Functions compiled by numba to object files, kept in a cache, loaded without numba.

A function that others call is declared by :func:`linked`; one that is called from Python with
arrays by :func:`compiled`; the engine makes its kernels of linked functions. Mathematics that
numbers, numpy arrays and the engine's vectors share is in elementary.py.
"""

from fastcnn.codegen.declarations import Elementary, Emitted, linked
from fastcnn.codegen.functions import Compiled, compiled

__all__ = ["Compiled", "Elementary", "Emitted", "compiled", "linked"]
