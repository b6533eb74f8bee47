"""The networks by name, without importing them."""

from enum import StrEnum


class ModelName(StrEnum):
    """Networks by name, for options that take nothing else."""

    report = "report"
    lenet5 = "lenet5"
    vgg_small = "vgg_small"
    resnet8 = "resnet8"
    resnet20 = "resnet20"
    airbench = "airbench"
    densenet_bc_40 = "densenet_bc_40"
    squeezenet = "squeezenet"
    mobilenet_v2 = "mobilenet_v2"
    ds_cnn = "ds_cnn"
