"""Image networks with residual or dense connections."""

from copy import deepcopy

import numpy as np

from fastcnn import layers as nn
from fastcnn.benchmark.zoo import resnet
from fastcnn.models.draft import Draft, Value


def resnet56(d: Draft) -> nn.Model:
    """Three stages of nine blocks."""
    return resnet(d, (16, 32, 64), 9)


def _pre_activated(d: Draft, x: Value, width: int, stride: int) -> Value:
    first = nn.ReLU()(d.norm(x))
    y = d.conv(first, width, stride=stride, bias=False)
    y = d.conv(nn.ReLU()(d.norm(y)), width, bias=False)
    if x.shape != y.shape:
        x = d.conv(first, width, 1, stride=stride, bias=False)
    return y + x


def _pre_activated_net(d: Draft, widths: tuple[int, ...], blocks: int) -> nn.Model:
    x = nn.Input((3, 32, 32))
    y = d.conv(x, 16, bias=False)
    for stage, width in enumerate(widths):
        for block in range(blocks):
            y = _pre_activated(d, y, width, 2 if stage and not block else 1)
    return nn.Model(x, d.mean_head(nn.ReLU()(d.norm(y)), 10))


def wrn_16_4(d: Draft) -> nn.Model:
    """Wide ResNet of depth 16, four times as wide."""
    return _pre_activated_net(d, (64, 128, 256), 2)


def preact_resnet20(d: Draft) -> nn.Model:
    """ResNet-20 with normalisation and activation before each convolution."""
    return _pre_activated_net(d, (16, 32, 64), 3)


def densenet_bc_40(d: Draft) -> nn.Model:
    """DenseNet-BC of depth 40 that grows by 12."""
    growth, layers = 12, 6
    x = nn.Input((3, 32, 32))
    y = d.conv(x, 2 * growth, bias=False)
    for stage in range(3):
        if stage:
            y = nn.AvgPool2d(2)(d.conv(nn.ReLU()(d.norm(y)), y.shape[0] // 2, 1, bias=False))
        for _ in range(layers):
            z = d.conv(nn.ReLU()(d.norm(y)), 4 * growth, 1, bias=False)
            y = nn.Concat()(y, d.conv(nn.ReLU()(d.norm(z)), growth, bias=False))
    return nn.Model(x, d.mean_head(nn.ReLU()(d.norm(y)), 10))


def _convnext_block(d: Draft, x: Value) -> Value:
    width = x.shape[0]
    y = nn.LayerNorm2d(width, eps=1e-6)(d.conv(x, width, 7, groups=width))
    y = d.conv(nn.GELU()(d.conv(y, 4 * width, 1)), width, 1)
    return x + nn.Scale(width, init=0.1)(y)


def convnext_femto(d: Draft) -> nn.Model:
    """ConvNeXt-femto for 32x32 images: its stem has patches of two pixels instead of four.

    The layer scales of the blocks begin at 0.1, not 1e-6, so that all gradients have a similar
    size.
    """
    x = nn.Input((3, 32, 32))
    y = nn.LayerNorm2d(48, eps=1e-6)(d.conv(x, 48, 2, stride=2, padding=0))
    for stage, (width, blocks) in enumerate(((48, 2), (96, 2), (192, 6), (384, 2))):
        if stage:
            y = d.conv(nn.LayerNorm2d(y.shape[0], eps=1e-6)(y), width, 2, stride=2, padding=0)
        for _ in range(blocks):
            y = _convnext_block(d, y)
    return nn.Model(
        x, d.linear(nn.LayerNorm(384, eps=1e-6)(nn.Flatten()(nn.GlobalAvgPool2d()(y))), 10)
    )


def _rep_block(d: Draft, x: Value, width: int, stride: int) -> Value:
    y = d.conv_norm(x, width, 3, stride=stride, activation=None) + d.conv_norm(
        x, width, 1, stride=stride, activation=None
    )
    return nn.ReLU()(y if x.shape != y.shape else y + d.norm(x))


def repvgg(d: Draft) -> nn.Model:
    """RepVGG-A0's blocks in three stages for CIFAR, each with three branches in training.

    :func:`merged` fuses them.
    """
    x = y = nn.Input((3, 32, 32))
    for width, blocks, stride in ((48, 1, 1), (48, 2, 1), (96, 4, 2), (192, 6, 2)):
        for block in range(blocks):
            y = _rep_block(d, y, width, 1 if block else stride)
    return nn.Model(x, d.mean_head(y, 10))


def merged(model: nn.Model) -> nn.Model:
    """A trained :func:`repvgg` as a chain: each block's branches are fused to one 3x3 convolution.

    A normalisation outside training is a scale and an offset per channel, a 1x1 kernel is the
    centre of a 3x3 one, and the identity is a 3x3 kernel as well.
    """
    assert model.input_shape is not None
    layers: list[nn.Layer] = []
    branches: list[tuple[np.ndarray, np.ndarray]] = []
    conv: nn.Conv2d | None = None
    stride: tuple[int, ...] = (1, 1)
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            conv, stride = layer, layer.stride
        elif isinstance(layer, nn.BatchNorm2d):
            branches.append(_as_kernel(conv, layer))
            conv = None
        elif isinstance(layer, nn.ReLU):
            weight, bias = (np.sum(parts, axis=0) for parts in zip(*branches, strict=True))
            made = nn.Conv2d(weight.shape[1], weight.shape[0], 3, stride=stride, padding=1)
            made.weight, made.bias = weight, bias
            layers += [made, nn.ReLU()]
            branches, stride = [], (1, 1)
        elif not isinstance(layer, nn.Add):
            layers.append(deepcopy(layer))
    return nn.Sequential(*layers, input_shape=model.input_shape)


def _as_kernel(conv: nn.Conv2d | None, norm: nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of the 3x3 convolution equal to a normalised one, or to a normalisation."""
    kernel = np.eye(norm.num_features)[:, :, None, None] if conv is None else conv.weight
    kernel = np.pad(kernel, ((0, 0), (0, 0), *(((3 - kernel.shape[2]) // 2,) * 2,) * 2))
    assert norm.weight is not None
    assert norm.bias is not None
    factor = norm.weight / np.sqrt(norm.buffers["running_var"] + norm.eps)
    bias = norm.bias - norm.buffers["running_mean"] * factor
    return (kernel * factor[:, None, None, None]).astype(np.float32), bias.astype(np.float32)
