"""Other libraries that take part in single layers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fastcnn.benchmark.environment import can_run
from fastcnn.benchmark.layer_cases import Arrays, LayerCase, LayerRun
from fastcnn.benchmark.peers import jax, pytorch, tensorflow, tinygrad


@dataclass(frozen=True)
class LayerPeer:
    """A contestant from another library.

    Attributes
    ----------
    name : str
    make : function of LayerCase, Arrays, bool, int
        The run of a layer, forward or backward, on some threads.
    takes : function of LayerCase, bool
        Whether it takes part in a layer, forward or backward.
    on_each : bool
        Whether it is measured on each number of threads; otherwise on all, which it takes anyhow.
    """

    name: str
    make: Callable[[LayerCase, Arrays, bool, int], LayerRun]
    takes: Callable[[LayerCase, bool], bool] = lambda case, backward: True
    on_each: bool = False

    @property
    def can_run(self) -> bool:
        """Whether its library works on this machine."""
        return can_run(self.name)


def _is_of_maps(case: LayerCase, backward: bool) -> bool:
    return len(case.shape) == 3


PEERS = (
    LayerPeer("PyTorch eager", partial(pytorch.layer_run, "eager"), on_each=True),
    LayerPeer("PyTorch channels_last", partial(pytorch.layer_run, "channels_last"),
              _is_of_maps, on_each=True),
    LayerPeer("PyTorch compile", partial(pytorch.layer_run, "compile"), on_each=True),
    LayerPeer("JAX jit", jax.layer_run),
    LayerPeer("TensorFlow function", tensorflow.layer_run),
    LayerPeer("tinygrad", tinygrad.layer_run, tinygrad.takes),
)  # fmt: skip
