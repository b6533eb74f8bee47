"""Optimisers and learning-rate schedules over flat parameter arrays."""

from fastcnn.optim.optimizers import (
    OPTIMIZERS,
    SGD,
    Adam,
    AdamW,
    Optimizer,
    RMSprop,
    as_optimizer,
    clip_gradient_norm,
    lerp,
)
from fastcnn.optim.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    OneCycle,
    Schedule,
    StepDecay,
    Warmup,
    as_schedule,
    learning_rates,
)

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
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
    "as_optimizer",
    "as_schedule",
    "clip_gradient_norm",
    "learning_rates",
    "lerp",
]
