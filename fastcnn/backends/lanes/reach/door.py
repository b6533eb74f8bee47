"""Checks the engine's arguments before it runs: kernels themselves check nothing.

A program is checked once, the arrays of a run every time, which takes a few microseconds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.context import KINDS, array_type
from fastcnn.backends.lanes.kernels.record import KERNELS
from fastcnn.backends.lanes.lowering.program import Program
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, check_row
from fastcnn.errors import DataError, ProgramError, ShapeError

#: Types of the arrays of a run; images may also be bytes.
TYPES = {"rates": np.dtype(np.float64)} | {
    name: array_type(KINDS[name])
    for name in ("order", "labels", "targets", "weights", "mean_weights", "outputs")
}
BYTES, FLOATS = np.dtype(np.uint8), np.dtype(np.float32)


def check_program(
    program: Program,
    parameters: np.ndarray,
    gradient: np.ndarray,
    running: Mapping[str, Sequence[np.ndarray]],
) -> None:
    """Refuse a program that would access memory outside its arrays.

    Parameters
    ----------
    running : mapping of str to sequence of ndarray
        Running mean and variance of each batch normalisation.

    Raises
    ------
    ProgramError
        With the name of the row, the operand that is out of bounds, and its range.
    """
    if program.rows.shape[1:] != (L.WIDTH,) or program.batch < 1 or program.workers < 1:
        raise ProgramError(f"a program of rows {program.rows.shape}, a batch of {program.batch}")
    for name, array in (("parameters", parameters), ("gradient", gradient)):
        if array.dtype != FLOATS or array.ndim != 1 or not array.flags.c_contiguous:
            raise ProgramError(f"{name} of type {array.dtype} and shape {array.shape}")
    for name, (_, channels) in program.running.items():
        if any(statistic.shape != (channels,) for statistic in running.get(name, [])[:2]):
            raise ProgramError(f"{name}: running statistics of other than {channels} channels")
    sizes = {"arena": program.arena_size, "parameters": parameters.size, "gradient": gradient.size}
    blocks = program.blocks
    for index, row in enumerate(program.rows):
        reach, kernel = Reach(row, program.tables, blocks, program.workers), int(row[L.KERNEL])
        try:
            check_row(reach, touches_of(kernel), sizes)
        except ProgramError as error:
            raise ProgramError(f"row {index} ({program.names[index]}): {error}") from None
    places = [(offset, values.size) for offset, values in program.constants.items()]
    places += [(offset, 2 * channels) for offset, channels in program.running.values()]
    for offset, size in places:
        if not 0 <= offset <= program.arena_size - size:
            raise ProgramError(
                f"{size} floats at {offset} of an arena of {program.arena_size} floats"
            )


def touches_of(kernel: int) -> Callable[[Reach], Touches]:
    """The function that returns what a kernel's rows access; ProgramError for an unknown kernel."""
    if kernel not in KERNELS:
        raise ProgramError(f"there is no kernel of number {kernel}")
    return KERNELS[kernel].touches


def _check_phases(program: Program, phases: np.ndarray) -> None:
    """Raise ProgramError if a phase has rows that the program does not have, or too few parts."""
    rows = phases[:, :2] if phases.ndim == 2 and phases.shape[1] == 3 else None
    if rows is None or (rows < 0).any() or (rows > len(program.rows)).any():
        raise ProgramError(f"phases of rows that a program of {len(program.rows)} does not have")
    for first, last, parts in phases.tolist():
        for row in program.rows[first:last]:
            kernel = KERNELS.get(int(row[L.KERNEL]))
            if kernel and kernel.parts is not None and row[kernel.parts] > parts:
                least = row[kernel.parts]
                raise ProgramError(f"{kernel.name}: {least} parts in a phase of {parts}")


@dataclass(frozen=True)
class Needs:
    """Requirements of the rows of some phases on the arrays of a run."""

    #: Elements of a sample that are read from the images, written to the outputs, and read from the
    #: targets as the output's gradient; 0 if none are.
    images: int = 0
    outputs: int = 0
    gradients: int = 0
    #: Elements of a sample's output that the loss compares.
    loss: int = 0
    #: Number of classes for each target of a loss over classes; else 0.
    classes: int = 0
    losses: int = 0

    @property
    def gives_gradient(self) -> bool:
        """Whether targets are the output's gradient, in the order of the run."""
        return self.gradients > 0 and self.loss == 0


def needs(program: Program, phases: np.ndarray) -> Needs:
    """The requirements of the rows of some phases; ProgramError if there are no such rows."""
    _check_phases(program, phases)
    wanted = np.zeros(len(program.rows), np.bool_)
    for first, last, _ in phases:
        wanted[first:last] = True
    arrays = {"images": 0, "outputs": 0, "gradients": 0}
    losses = {"loss": 0, "classes": 0, "losses": 0}
    for row in program.rows[wanted]:
        kernel = KERNELS.get(int(row[L.KERNEL]))
        used = kernel.of_run if kernel else ""
        if used in arrays:
            arrays[used] = max(arrays[used], int(row[L.IN]))
        elif used:
            losses["loss"] = max(losses["loss"], int(row[L.CHANNELS] * row[L.POSITIONS]))
            losses["classes"] = int(row[L.CHANNELS]) if used == "classes" else 0
            losses["losses"] = max(losses["losses"], int(row[L.OUT]) + 1)
    return Needs(**arrays, **losses)


def check_run(
    wants: Needs, batch: int, schedule: np.ndarray, images: np.ndarray, arrays: dict[str, Any]
) -> None:
    """Refuse arrays of a run whose bounds its rows would exceed.

    Parameters
    ----------
    batch : int
        Maximum samples of a pass.
    schedule : ndarray of int64, shape (passes, 5)
    arrays : dict of str to ndarray
        All other arrays, by the names in :data:`TYPES`.

    Raises
    ------
    ShapeError
        If an array has the wrong dtype, is not contiguous or too small.
    DataError
        If an order or a label is out of range.
    """
    for name, kind in TYPES.items():
        array = arrays[name]
        if array.dtype != kind or array.ndim != 1 or not array.flags.c_contiguous:
            raise ShapeError(
                f"{name} must be a contiguous array of {kind} of one dimension, got "
                f"{array.dtype} of shape {array.shape}"
            )
    if images.dtype != BYTES and images.dtype != FLOATS:
        raise ShapeError(f"images must be uint8 or float32, got {images.dtype}")
    order, steps = arrays["order"], len(arrays["rates"])
    if not steps or wants == NOTHING:
        return
    starts, counts = schedule[:, 0], schedule[:, 1]
    end = int((starts + counts).max())
    fits = starts.min() >= 0 and 1 <= counts.min() <= counts.max() <= batch and end <= len(order)
    if len(schedule) != steps or not fits:
        raise ShapeError(f"order: {steps} steps of {batch} samples of {len(order)}")
    order = order[:end]
    # Unsigned, negative indices are larger than all others.
    last = int(order.view(np.uint64).max())
    count = last + 1
    if wants.images and count * wants.images > images.size:
        raise DataError(f"order must index the {images.size // wants.images} images")
    if len(order) * wants.outputs > arrays["outputs"].size:
        raise ShapeError(
            f"outputs: {len(order)} samples of {wants.outputs} need more than "
            f"{arrays['outputs'].size} floats"
        )
    _check_targets(wants, order, count, arrays)


def _check_targets(wants: Needs, order: np.ndarray, count: int, arrays: dict[str, Any]) -> None:
    """The same for targets, labels and weights; ``count`` samples may be read."""
    targets, labels = arrays["targets"], arrays["labels"]
    size = max(wants.gradients, wants.loss)
    read = len(order) if wants.gives_gradient else count
    if wants.classes and not targets.size:
        places = wants.loss // wants.classes
        if count * places > labels.size:
            raise ShapeError(
                f"labels: {count} samples of {places} need more than {labels.size} numbers"
            )
        rows = labels[: labels.size // places * places].reshape(-1, places)[order]
        # -1 is ignored.
        if rows.size and not -1 <= rows.min() <= rows.max() < wants.classes:
            raise DataError(
                f"labels must be from 0 to {wants.classes - 1}, got {rows.min()} to {rows.max()}"
            )
    elif read * size > targets.size:
        raise ShapeError(f"targets: {read} samples of {size} need more than {targets.size} floats")
    weights, means = arrays["weights"].size, arrays["mean_weights"].size
    if wants.loss and weights and count > weights:
        raise ShapeError(f"weights: sample {count - 1} of {weights} is out of range")
    if means < len(arrays["rates"]) * wants.losses:
        raise ShapeError(
            f"mean_weights: {len(arrays['rates'])} passes of {wants.losses} losses need more than "
            f"{means} numbers"
        )


NOTHING = Needs()
