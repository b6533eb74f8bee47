"""A local page for drawing a digit, which shows the output of a trained network."""

from fastcnn.serve.answers import Answers
from fastcnn.serve.server import make_server

__all__ = ["Answers", "make_server"]
