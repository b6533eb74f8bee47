"""What a figure of the study still says in English, once translated."""

import re
from typing import Any

from matplotlib.text import Text

from fastcnn.study.chinese import translate

#: Names, which stay.
NAMES = {
    *(
        "CNN",
        "FC",
        "LeakyReLU",
        "ReLU",
        "leaky",
        "relu",
        "scaled",
        "sigmoid",
        "tanh",
        "dropout",
        "nats",
        "lr",
        "std",
    ),
    *("conv", "fc", "pool", "mathdefault", "times"),
}


def left_in_english(figure: Any) -> set[str]:
    """Words other than names, after the figure's translation."""
    figure.canvas.draw()
    translate(figure)
    texts = " ".join(text.get_text() for text in figure.findobj(Text))
    return set(re.findall("[A-Za-z]{2,}", texts)) - NAMES
