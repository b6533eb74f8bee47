"""Optimisers, parameter groups and learning rate schedules over flat parameter arrays."""

from fastcnn.optim.adaptive import Adadelta, Adagrad, Adam, AdamW, NAdam, RMSprop
from fastcnn.optim.base import Optimizer
from fastcnn.optim.groups import Assignment, ParameterGroup, Part, as_groups
from fastcnn.optim.lookahead import Lookahead
from fastcnn.optim.muon import Muon
from fastcnn.optim.optimizers import OPTIMIZERS, SGD, Lion, as_optimizer, clip_gradient_norm
from fastcnn.optim.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    MultiStep,
    OneCycle,
    Schedule,
    StepDecay,
    Triangular,
    Warmup,
    as_schedule,
    learning_rates,
)

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Assignment",
    "Constant",
    "Cosine",
    "Lion",
    "Lookahead",
    "MultiStep",
    "Muon",
    "NAdam",
    "OneCycle",
    "Optimizer",
    "ParameterGroup",
    "Part",
    "RMSprop",
    "Schedule",
    "StepDecay",
    "Triangular",
    "Warmup",
    "as_groups",
    "as_optimizer",
    "as_schedule",
    "clip_gradient_norm",
    "learning_rates",
]
