"""Windows of pooling, for libraries that have no adaptive one."""

from fastcnn.backends.graph import Node


def even_windows(node: Node) -> tuple[int, int] | None:
    """The windows of an adaptive pooling, where they are all alike and do not overlap."""
    (height, width), (rows, columns) = node.input_shapes[0][1:], node.output_shape[1:]
    even = height % rows == width % columns == 0
    return (height // rows, width // columns) if even else None
