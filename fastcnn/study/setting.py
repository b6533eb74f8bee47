"""What all experiments of a study share."""

from dataclasses import dataclass

from fastcnn.data.dataset import Dataset

#: How many times fewer steps a quick study takes.
QUICK = 20


@dataclass(frozen=True)
class Setting:
    """Data and size of a study.

    Attributes
    ----------
    train, test : Dataset
        Digits 0, 1 and 2.
    quick : bool
        A trial: few steps, whose results mean little.
    """

    train: Dataset
    test: Dataset
    quick: bool = False

    def steps(self, count: int) -> int:
        """Steps of a training that takes ``count`` in a whole study."""
        return max(2, count // QUICK) if self.quick else count
