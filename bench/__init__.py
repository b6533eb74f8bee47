"""Measurements for this project's own pages; users have ``fastcnn bench`` and ``profile``."""
