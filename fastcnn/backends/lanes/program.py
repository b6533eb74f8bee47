"""A network lowered: rows for the interpreter, tables of addresses, one arena."""

from dataclasses import dataclass

import numpy as np

from fastcnn.backends.lanes import layout as L
from fastcnn.backends.lanes.buffers import Buffer


@dataclass
class Program:
    """What the interpreter runs, and where things are.

    Attributes
    ----------
    phases : ndarray of int64, shape (phases, 3)
        First and last row, and whether they take the whole batch at once.
    rows : ndarray of int64, shape (rows, WIDTH)
    names : list of str
        What each row does, for people.
    constants : dict of int to ndarray
        What stands in the arena before the first run, by offset.
    running : dict of str to (offset, channels)
        By name of a batch normalisation: where its running mean stands, behind it the running
        variance and the number of batches.
    first_backward : int
        The first phase after the loss.
    """

    batch: int
    phases: np.ndarray
    rows: np.ndarray
    names: list[str]
    tables: np.ndarray
    arena_size: int
    constants: dict[int, np.ndarray]
    running: dict[str, tuple[int, int]]
    first_backward: int
    input: Buffer
    output: Buffer
    output_gradient: Buffer | None
    input_gradient: Buffer | None
    normalisation: int

    def backward_phases(self, skip_forward: bool) -> np.ndarray:
        """The phases of input and backward pass, with or without the forward pass between."""
        if not skip_forward:
            return self.phases
        needed = {L.K_PACK: 1, L.K_INPUT: 0, L.K_TRANSPOSE: 1}
        last = self.phases[self.first_backward][0]
        kernels = enumerate(self.rows[:last, L.KERNEL])
        before = [[index, index + 1, needed[k]] for index, k in kernels if k in needed]
        return np.array([*before, *self.phases[self.first_backward :]], np.int64)
