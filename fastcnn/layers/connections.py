"""How a model's layers are connected, as a graph and for people."""

from collections.abc import Iterator
from textwrap import indent
from typing import TYPE_CHECKING

from fastcnn.backends.graph import Graph, Shape
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers.base import GraphBuilder, Layer
from fastcnn.layers.changes import Watched
from fastcnn.layers.summary import html_summary, summary_rows, text_summary
from fastcnn.layers.wiring import Wiring
from fastcnn.notebook import html_table

if TYPE_CHECKING:
    from fastcnn.layers.structure import Structure


class Connections(Layer):
    """The part of a model that connects its layers."""

    input_shape: Shape | None
    _wiring: Wiring | None

    if TYPE_CHECKING:

        @property
        def layers(self) -> Watched[Layer]: ...

        @layers.setter
        def layers(self, layers: Watched[Layer]) -> None: ...

        def named_leaves(self, prefix: str = "") -> Iterator[tuple[str, Layer]]: ...

        def _current(self) -> "Structure": ...

    def graph(self, input_shape: Shape | None = None) -> Graph:
        """Nodes of this model for samples of ``input_shape`` (default: the model's own).

        Raises
        ------
        ShapeError
            If a layer cannot take what comes before it; the message names the layer.
        """
        shape = self._known_shape(input_shape)
        known = self._current()
        graph = known.graphs.get(shape)
        if graph is None:
            builder = self.builder(shape)
            if not builder.nodes:
                raise ConfigurationError("the model computes nothing: all of it is the identity")
            graph = known.keep_graph(shape, builder.build())
        return graph

    def builder(self, input_shape: Shape | None = None) -> GraphBuilder:
        """The nodes of :meth:`graph` with the layers that they come from."""
        builder = GraphBuilder(self._known_shape(input_shape), self._current().keys)
        self.connect(builder, "", -1)
        return builder

    @property
    def wiring(self) -> Wiring | None:
        """How the layers are connected, if the model was made of inputs and outputs."""
        return self._wiring

    @property
    def takes(self) -> int:
        """Number of inputs."""
        return 1 if self._wiring is None else len(self._wiring.inputs)

    @property
    def gives(self) -> int:
        """Number of outputs."""
        return 1 if self._wiring is None else len(self._wiring.outputs)

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """Connect the layers as they were when the model was made; subclasses have a way of theirs.

        Raises
        ------
        ConfigurationError
            If the model has several inputs or outputs, or a layer is not there any more.
        """
        outputs = self.connect_all(builder, name, source)
        if len(outputs) > 1:
            raise ConfigurationError(
                f"layer {name!r} has {len(outputs)} outputs: a chain takes those with one"
            )
        return outputs[0]

    def connect_all(self, builder: GraphBuilder, name: str, *sources: int) -> tuple[int, ...]:
        """The same for several inputs and outputs."""
        if self._wiring is None:
            return super().connect_all(builder, name, *sources)
        return self._wiring.connect(self.layers, builder, name, sources)

    def _known_shape(self, input_shape: Shape | None) -> Shape:
        shape = self.input_shape if input_shape is None else tuple(input_shape)
        if shape is None:
            raise ShapeError("the model's input shape is not known yet: pass input_shape=(C, H, W)")
        return shape

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one sample at the model's output."""
        return self.graph(input_shape).output_shape

    def flops(self, input_shape: Shape) -> int:
        """Floating-point operations of one sample's forward pass."""
        return sum(row.flops for row in summary_rows(self.builder(input_shape)))

    def summary(self, input_shape: Shape | None = None) -> str:
        """A table of layers: output shape, parameters and FLOPs of one sample's forward pass.

        Parameters that are used at several places are counted at the first.
        """
        return text_summary(self.builder(input_shape))

    def _repr_html_(self) -> str:
        """What Jupyter shows: the table of :meth:`summary`, or the layers without shapes."""
        kind = type(self).__name__
        if self.input_shape is None:
            leaves = [(name, repr(layer)) for name, layer in self.named_leaves()]
            return html_table(("layer", ""), leaves, caption=kind, left=2)
        return html_summary(self.builder(), f"{kind} for samples of shape {self.input_shape}")

    def __repr__(self) -> str:
        if self._wiring is None:
            lines = "\n".join(f"({name}): {layer!r}" for name, layer in self.layers.items())
        else:
            lines = "\n".join(self._wiring.lines(self.layers))
        return f"{type(self).__name__}(\n{indent(lines, '  ')}\n)"
