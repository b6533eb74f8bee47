"""Training on several processes, over MPI."""

from fastcnn.distributed.launch import launched_size
from fastcnn.distributed.world import World, join

__all__ = ["World", "join", "launched_size"]
