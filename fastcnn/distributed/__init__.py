"""Training on several processes, over MPI."""

from fastcnn.distributed.launch import is_launched
from fastcnn.distributed.world import World

__all__ = ["World", "is_launched"]
