"""The samples that a run of a program reads, and its position in training."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# For kernels, an empty array is a missing one.
NO_BYTES, NO_FLOATS = np.zeros(0, np.uint8), np.zeros(0, np.float32)
NO_LABELS, NO_WEIGHTS = np.zeros(0, np.int64), np.zeros(0)


class Batches(NamedTuple):
    """Samples in a given order, one batch per run, with their targets and weights."""

    #: ndarray of uint8 or float32, shape (N, ...). Contiguous, as stored.
    images: np.ndarray
    #: ndarray of int64.
    order: np.ndarray
    #: ndarray of int64.
    labels: np.ndarray = NO_LABELS
    #: ndarray of float32.
    targets: np.ndarray = NO_FLOATS
    #: ndarray of float64. Weights of samples, or of targets.
    weights: np.ndarray = NO_WEIGHTS
    #: ndarray of float64. For each pass, and each of several losses: the total weight of its step's
    #: targets, including class weights, divided by the samples of the pass; empty if all weights
    #: are 1. A pass thus contributes its part of a step's mean loss.
    mean_weights: np.ndarray = NO_WEIGHTS
    #: ndarray of float32, which is filled.
    outputs: np.ndarray = NO_FLOATS


#: For phases that read no sample.
NO_BATCHES = Batches(np.zeros(1, np.float32), np.zeros(1, np.int64))


@dataclass(frozen=True)
class Moment:
    """A run's position in training, on which dropout and optimisers depend."""

    seed: int = 0
    #: Number of earlier steps.
    first_step: int = 0
    #: Index of the first sample in a batch that is divided among processes.
    first_sample: int = 0
