"""A local page to draw a digit on and see what a trained network makes of it."""

from fastcnn.serve.answers import Answers
from fastcnn.serve.server import make_server

__all__ = ["Answers", "make_server"]
