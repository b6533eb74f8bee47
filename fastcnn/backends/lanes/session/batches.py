"""What a run of a program reads of samples, and where in a training it is."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Kernels take what is empty for what is not there.
NO_BYTES, NO_FLOATS = np.zeros(0, np.uint8), np.zeros(0, np.float32)
NO_LABELS, NO_WEIGHTS = np.zeros(0, np.int64), np.zeros(0)


class Batches(NamedTuple):
    """Samples that are taken in some order, a batch a run, and what belongs to them."""

    #: ndarray of uint8 or float32, shape (N, ...). Contiguous, as they are stored.
    images: np.ndarray
    #: ndarray of int64.
    order: np.ndarray
    #: ndarray of int64.
    labels: np.ndarray = NO_LABELS
    #: ndarray of float32.
    targets: np.ndarray = NO_FLOATS
    #: ndarray of float64. Those of samples, or of targets.
    weights: np.ndarray = NO_WEIGHTS
    #: ndarray of float64. For each pass, and each of several losses: what the targets of its step
    #: weigh in all, classes' weights included, by the samples of the pass; empty where each weighs
    #: 1. A pass thus gives its part of a step's mean loss.
    mean_weights: np.ndarray = NO_WEIGHTS
    #: ndarray of float32. Is filled.
    outputs: np.ndarray = NO_FLOATS


#: For phases that read no sample.
NO_BATCHES = Batches(np.zeros(1, np.float32), np.zeros(1, np.int64))


@dataclass(frozen=True)
class Moment:
    """Where in a training a run is: dropout and optimisers depend on it."""

    seed: int = 0
    #: Steps that were taken before.
    first_step: int = 0
    #: Place of the first sample in a batch that several processes share.
    first_sample: int = 0
