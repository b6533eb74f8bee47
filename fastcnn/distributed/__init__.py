"""Data-parallel training on several processes, over MPI."""

from fastcnn.distributed.world import World, join, launched_size

__all__ = ["World", "join", "launched_size"]
