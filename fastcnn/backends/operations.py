"""The table of operations: what each one reads, forward and backward.

A model runner and a program builder need to know three things of an operation: its name (the
function of that name in every backend), which of a layer's parameters it takes, and which of them
its backward pass reads. A new layer adds its row here and its function pair to each backend.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Operation:
    """One row of the table.

    Attributes
    ----------
    name : str
        The backend function; its gradient is ``name + "_backward"``.
    inputs : int
        Arrays that it reads, each the output of another node.
    parameters : tuple of str
        Parameters passed to the forward function, after the inputs and in this order.
    backward_reads : tuple of str
        Those of them that the backward function takes, after ``grad_output`` and the inputs.
    random : bool
        True if the operation needs a key of the counter-based generator, and is the identity
        outside training.
    normalises : bool
        True if the operation takes ``mean`` and ``variance``: None for those of its input, in
        training, or the running ones. The function ``batch_statistics`` gives the former.
    """

    name: str
    parameters: tuple[str, ...] = ()
    backward_reads: tuple[str, ...] = ()
    random: bool = False
    normalises: bool = False
    inputs: int = 1


OPERATIONS: dict[str, Operation] = {
    row.name: row
    for row in (
        Operation("conv2d", ("weight", "bias"), ("weight",)),
        Operation("conv_transpose2d", ("weight", "bias"), ("weight",)),
        Operation("linear", ("weight", "bias"), ("weight",)),
        Operation("max_pool2d"),
        Operation("avg_pool2d"),
        Operation("adaptive_avg_pool2d"),
        Operation("relu"),
        Operation("sigmoid"),
        Operation("tanh"),
        Operation("leaky_relu"),
        Operation("elu"),
        Operation("gelu"),
        Operation("silu"),
        Operation("softplus"),
        Operation("flatten"),
        Operation("add", inputs=2),
        Operation("dropout", random=True),
        Operation("dropout2d", random=True),
        Operation("batch_norm", ("weight", "bias"), ("weight",), normalises=True),
    )
}

LOSSES: tuple[str, ...] = ("cross_entropy", "mse")
