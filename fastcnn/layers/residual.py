"""Residual blocks: a branch whose output is added to what entered it."""

from fastcnn.layers.base import Layer
from fastcnn.layers.builder import GraphBuilder
from fastcnn.layers.container import Model
from fastcnn.layers.join import Add


class Residual(Model):
    """``main(x) + shortcut(x)``; without a shortcut ``main(x) + x``.

    The state keys are those of a PyTorch module with the children ``main`` and ``shortcut``.

    Parameters
    ----------
    main : Layer
        The branch with the work, usually a :class:`Sequential`.
    shortcut : Layer, optional
        What brings the input to the shape of the branch's output, such as a 1x1 convolution with
        a stride.

    References
    ----------
    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", arXiv:1512.03385,
    section 3.2.

    Examples
    --------
    >>> from fastcnn.layers import Conv2d, ReLU, Sequential
    >>> block = Residual(Sequential(Conv2d(4, 4, 3, padding=1), ReLU(), Conv2d(4, 4, 1)))
    >>> block.output_shape((4, 8, 8))
    (4, 8, 8)
    >>> list(block.state_dict())
    ['main.0.weight', 'main.0.bias', 'main.2.weight', 'main.2.bias']
    """

    def __init__(self, main: Layer, shortcut: Layer | None = None) -> None:
        super().__init__({"main": main} | ({} if shortcut is None else {"shortcut": shortcut}))

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """Connect both branches to ``source``, and add what comes out of them."""
        prefix = f"{name}." if name else ""
        outputs = [
            layer.connect(builder, f"{prefix}{child}", source)
            for child, layer in self.layers.items()
        ]
        left, right = (*outputs, source)[:2]
        return builder.add(f"{prefix}add", Add(), (left, right))
