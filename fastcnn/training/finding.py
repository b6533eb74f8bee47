"""What a diagnosis says."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a run.

    Attributes
    ----------
    kind : str
        "chance", "still", "dead", "saturated", "diverging" or "overfitting".
    epoch : int
    layer : str
        ``""`` where it is not about one layer.
    message : str
        What was seen, with numbers.
    advice : str
        What to change.
    """

    kind: str
    epoch: int
    layer: str
    message: str
    advice: str

    def __str__(self) -> str:
        return f"epoch {self.epoch}: {self.message}; {self.advice}"
