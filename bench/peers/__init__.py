"""Other libraries as contestants: the same network from the same graph and state."""

from bench.peers import jax, tensorflow, tinygrad
from fastcnn.benchmark import pytorch

PEERS = (*pytorch.PEERS, jax.PEER, *tensorflow.PEERS, tinygrad.PEER)
