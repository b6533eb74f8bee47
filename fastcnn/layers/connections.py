"""The connections of a model's layers, as a graph, a table and a picture."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any, ClassVar, cast

from fastcnn.arguments import as_sample_shape
from fastcnn.backends.graph import INPUT, Graph, Node, Port, Shape, ports
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers.base import Layer
from fastcnn.layers.branches import Concat
from fastcnn.layers.builder import GraphBuilder
from fastcnn.layers.changes import Watched
from fastcnn.layers.drawing import Drawing, draw
from fastcnn.layers.linear import Flatten
from fastcnn.layers.summary import html_summary, summary_rows, text_summary
from fastcnn.layers.wiring import Wiring
from fastcnn.notebook import html_table

if TYPE_CHECKING:
    from fastcnn.layers.container import Model
    from fastcnn.layers.structure import Structure


def needed_nodes(nodes: Sequence[Node], last: int) -> tuple[list[int], tuple[Node, ...]]:
    """The nodes on which node ``last`` depends, itself included, and their old indices."""
    needed = {last}
    for index in range(last, -1, -1):
        if index in needed:
            needed.update(nodes[index].inputs)
    kept = sorted(needed - {INPUT})
    places = {INPUT: INPUT} | {index: place for place, index in enumerate(kept)}
    made = (
        replace(nodes[index], inputs=tuple(places[source] for source in nodes[index].inputs))
        for index in kept
    )
    return kept, tuple(made)


class InputPart(Layer):
    """One of a model's several inputs, extracted from samples that hold all of them."""

    operation: ClassVar[str] = "input_part"
    flops_each: ClassVar[int] = 0

    def __init__(self, port: Port) -> None:
        super().__init__()
        self.port = port

    @property
    def arguments(self) -> dict[str, Any]:
        """The input's offset and shape."""
        return {"start": self.port.start, "shape": self.port.shape}

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of this input."""
        return self.port.shape

    def __repr__(self) -> str:
        return "Input"


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
            If a layer does not accept its input; the message names the layer.
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
        """The nodes of :meth:`graph` with their layers."""
        shape = self._known_shape(input_shape)
        if self._wiring is None or self.takes == 1:
            builder = GraphBuilder(shape, self._current().keys)
            sources: tuple[int, ...] = (-1,)
        else:
            builder, sources = self._several(tuple(self._wiring.inputs.values()))
            if shape != builder.input_shape:
                raise ShapeError(
                    f"the model has the inputs {', '.join(self._wiring.inputs)}, of "
                    f"{builder.input_shape[0]} elements in total, not {shape}"
                )
        values = self.connect_all(builder, "", *sources)
        if len(values) > 1 and self._wiring is not None:
            named = list(zip(self._wiring.outputs, values, strict=True))
            builder.outputs = ports((name, builder.shape(value)) for name, value in named)
            flat = tuple(
                value
                if len(builder.shape(value)) == 1
                else builder.add(f"{name}, flat", Flatten(), (value,))
                for name, value in named
            )
            values = (builder.add("outputs", Concat(), flat),)
        # Not all of a layer's outputs may be used.
        kept, nodes = needed_nodes(builder.nodes, values[0])
        builder.nodes, builder.layers = list(nodes), [builder.layers[index] for index in kept]
        return builder

    def _several(self, shapes: tuple[Shape, ...]) -> tuple[GraphBuilder, tuple[int, ...]]:
        """A graph with several inputs, and their nodes."""
        assert self._wiring is not None
        inputs = ports(zip(self._wiring.inputs, shapes, strict=True))
        builder = GraphBuilder((inputs[-1].stop,), self._current().keys)
        builder.inputs = inputs
        return builder, tuple(builder.add(port.name, InputPart(port), (-1,)) for port in inputs)

    def output_shapes(self, *input_shapes: Shape) -> tuple[Shape, ...]:
        if self._wiring is None:
            return super().output_shapes(*input_shapes)
        if len(input_shapes) == 1:
            builder = GraphBuilder(tuple(input_shapes[0]), self._current().keys)
            values = self.connect_all(builder, "", -1)
        else:
            builder, sources = self._several(input_shapes)
            values = self.connect_all(builder, "", *sources)
        return tuple(builder.shape(value) for value in values)

    @property
    def wiring(self) -> Wiring | None:
        """How the layers are connected, if the model was made from inputs and outputs."""
        return self._wiring

    @property
    def takes(self) -> int:
        """Number of inputs."""
        return 1 if self._wiring is None else len(self._wiring.inputs)

    @property
    def gives(self) -> int:
        return 1 if self._wiring is None else len(self._wiring.outputs)

    def connect(self, builder: GraphBuilder, name: str, source: int) -> int:
        """Connect the layers as when the model was made; subclasses override this.

        Raises
        ------
        ConfigurationError
            If the model has several inputs or outputs, or a layer has been removed.
        """
        outputs = self.connect_all(builder, name, source)
        if len(outputs) > 1:
            raise ConfigurationError(
                f"layer {name!r} has {len(outputs)} outputs: a chain takes those with one"
            )
        return outputs[0]

    def connect_all(self, builder: GraphBuilder, name: str, *sources: int) -> tuple[int, ...]:
        """Like :meth:`connect`, for several inputs and outputs."""
        if self._wiring is None:
            return super().connect_all(builder, name, *sources)
        return self._wiring.connect(self.layers, builder, name, sources)

    def _known_shape(self, input_shape: Shape | None) -> Shape:
        shape = self.input_shape if input_shape is None else as_sample_shape(input_shape)
        if shape is None:
            raise ShapeError("the model's input shape is not known yet: pass input_shape=(C, H, W)")
        return shape

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one sample at the model's output."""
        return self.graph(input_shape).output_shape

    def flops(self, *input_shapes: Shape) -> int:
        """Floating-point operations of one sample's forward pass."""
        return sum(row.flops for row in summary_rows(self.builder(*input_shapes)))

    def summary(self, input_shape: Shape | None = None) -> str:
        """A table of layers: output shape, parameters and FLOPs of one sample's forward pass.

        Shared parameters are counted at their first use.
        """
        return text_summary(self.builder(input_shape))

    def draw(self, path: str | Path | None = None, input_shape: Shape | None = None) -> Drawing:
        """Draw the network: its layers with their output shapes, and their connections.

        Parameters
        ----------
        path : path, optional
            An ``.svg`` file to write.
        input_shape : tuple of int, optional
            Shape of one sample, if the model does not know it.

        Returns
        -------
        Drawing
            Displayed by notebooks.

        Raises
        ------
        ConfigurationError
            If the file's name does not end in ``.svg``.
        ShapeError
            If the shape of a sample is unknown or invalid.
        OSError
            If the file cannot be written.
        """
        drawing = draw(self.builder(input_shape), f"{type(self).__name__} of fastcnn")
        if path is not None:
            drawing.save(path)
        return drawing

    def _repr_html_(self) -> str:
        """Display in Jupyter: the table of :meth:`summary`, or the layers without shapes."""
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


def as_model(value: Any) -> "Model":
    """Check that a user's value is a model, and return it.

    Raises
    ------
    ConfigurationError
        If it is something else.
    """
    if isinstance(value, Connections):
        return cast("Model", value)
    hint = ""
    if isinstance(value, (str, Path)):
        hint = "; fastcnn.load(path) reads one from a file"
    elif isinstance(getattr(value, "model_", None), Connections):
        hint = "; that of an estimator is its model_"
    elif hasattr(value, "load_model"):
        hint = "; that of a run is run.load_model()"
    raise ConfigurationError(
        "model must be a Model, such as fastcnn.models.report_cnn() or fastcnn.Sequential(...), "
        f"got {value!r}{hint}"
    )
