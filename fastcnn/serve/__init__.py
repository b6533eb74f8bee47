"""A local page where one draws a digit and sees what a trained network makes of it."""

from fastcnn.serve.server import make_server

__all__ = ["make_server"]
