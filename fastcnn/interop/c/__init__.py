"""Trained networks as one dependency-free C99 file."""

from fastcnn.interop.c.export import CExport, export_c

__all__ = ["CExport", "export_c"]
