"""Optimisers and learning-rate schedules over flat parameter arrays."""

from fastcnn.optim.optimizers import (
    SGD,
    Adam,
    AdamW,
    Optimizer,
    RMSprop,
    clip_gradient_norm,
    make_optimizer,
)
from fastcnn.optim.schedules import (
    Constant,
    Cosine,
    OneCycle,
    Schedule,
    StepDecay,
    Warmup,
    learning_rates,
    make_schedule,
)

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "OneCycle",
    "Optimizer",
    "RMSprop",
    "Schedule",
    "StepDecay",
    "Warmup",
    "clip_gradient_norm",
    "learning_rates",
    "make_optimizer",
    "make_schedule",
]
