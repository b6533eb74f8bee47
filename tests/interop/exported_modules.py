"""Small PyTorch networks in common styles, for tests of files from its exporters."""

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn, F = torch.nn, torch.nn.functional


class Block(nn.Module):  # type: ignore[misc, name-defined]
    """A module that is given its parts and what it computes with them."""

    def __init__(self, compute: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.compute = compute

    def forward(self, *inputs: Any) -> Any:
        return self.compute(self, *inputs)


def conv_bn(inputs: int, outputs: int, size: int, act: Any = nn.ReLU, **arguments: Any) -> Any:
    """Convolution, batch normalisation, activation."""
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False, **arguments)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), act())


def _basic(inputs: int, outputs: int, stride: int) -> Any:
    shortcut = nn.Identity()
    if stride > 1 or inputs != outputs:
        shortcut = conv_bn(inputs, outputs, 1, nn.Identity, stride=stride)
    return Block(
        lambda m, x: F.relu(m.second(m.first(x)) + m.shortcut(x)),
        first=conv_bn(inputs, outputs, 3, stride=stride),
        second=conv_bn(outputs, outputs, 3, nn.Identity),
        shortcut=shortcut,
    )


def _excite(channels: int, squeezed: int, act: Any, gate: Any) -> Any:
    """Squeeze-and-excitation as in torchvision."""
    return Block(
        lambda m, x: x * m.gate(m.fc2(m.act(m.fc1(m.pool(x))))),
        pool=nn.AdaptiveAvgPool2d(1),
        fc1=nn.Conv2d(channels, squeezed, 1),
        fc2=nn.Conv2d(squeezed, channels, 1),
        act=act(),
        gate=gate(),
    )


def _viewed_excite(channels: int, squeezed: int) -> Any:
    """Squeeze-and-excitation with linear layers and views."""

    def compute(m: Any, x: Any) -> Any:
        b, c, _, _ = x.size()
        return x * m.fc(m.pool(x).view(b, c)).view(b, c, 1, 1).expand_as(x)

    fc = nn.Sequential(
        nn.Linear(channels, squeezed, bias=False), nn.ReLU(inplace=True),
        nn.Linear(squeezed, channels, bias=False), nn.Sigmoid(),
    )  # fmt: skip
    return Block(compute, pool=nn.AdaptiveAvgPool2d(1), fc=fc)


def _inverted(inputs: int, outputs: int, stride: int, act: Any, excite: Any = None) -> Any:
    """MobileNet's inverted residual, EfficientNet's MBConv."""
    wide = 2 * inputs
    layers = [
        conv_bn(inputs, wide, 1, act),
        conv_bn(wide, wide, 3, act, stride=stride, groups=wide),
        *([excite(wide)] if excite else []),
        conv_bn(wide, outputs, 1, nn.Identity),
    ]
    is_residual = stride == 1 and inputs == outputs
    return Block(lambda m, x: x + m.body(x) if is_residual else m.body(x),
                 body=nn.Sequential(*layers))  # fmt: skip


def _head(channels: int, classes: int = 5) -> list[Any]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def _fire(inputs: int, squeezed: int, wide: int) -> Any:
    return Block(
        lambda m, x: torch.cat([F.relu(m.one(s := F.relu(m.squeeze(x)))), F.relu(m.three(s))], 1),
        squeeze=nn.Conv2d(inputs, squeezed, 1),
        one=nn.Conv2d(squeezed, wide, 1),
        three=nn.Conv2d(squeezed, wide, 3, padding=1),
    )


def channel_shuffle(x: Any, groups: int) -> Any:
    """As in torchvision."""
    b, c, h, w = x.size()
    x = x.view(b, groups, c // groups, h, w)
    return torch.transpose(x, 1, 2).contiguous().view(b, c, h, w)


def _shuffle_unit(channels: int, stride: int) -> Any:
    half = channels // 2 if stride == 1 else channels

    def compute(m: Any, x: Any) -> Any:
        if stride == 1:
            x1, x2 = x.chunk(2, dim=1)
            out = torch.cat((x1, m.branch2(x2)), dim=1)
        else:
            out = torch.cat((m.branch1(x), m.branch2(x)), dim=1)
        return channel_shuffle(out, 2)

    def depthwise(step: int) -> Any:
        return conv_bn(half, half, 3, nn.Identity, stride=step, groups=half)

    branch2 = nn.Sequential(conv_bn(half, half, 1), depthwise(stride), conv_bn(half, half, 1))
    branch1 = nn.Sequential(depthwise(stride), conv_bn(half, half, 1))
    return Block(compute, branch2=branch2, **({} if stride == 1 else {"branch1": branch1}))


def _dense(inputs: int, growth: int, count: int) -> Any:
    def compute(m: Any, x: Any) -> Any:
        found = [x]
        for layer in m.layers:
            found.append(layer(torch.cat(found, 1)))
        return torch.cat(found, 1)

    layers = [
        nn.Sequential(
            nn.BatchNorm2d(inputs + i * growth), nn.ReLU(),
            nn.Conv2d(inputs + i * growth, growth, 3, padding=1, bias=False),
        )
        for i in range(count)
    ]  # fmt: skip
    return Block(compute, layers=nn.ModuleList(layers))


class LastNorm(nn.LayerNorm):  # type: ignore[misc, name-defined]
    """ConvNeXt's LayerNorm2d."""

    def forward(self, x: Any) -> Any:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class MeanNorm(nn.Module):  # type: ignore[misc, name-defined]
    """LayerNorm over channels, as in ConvNeXt's own repository."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(channels) + 0.5)
        self.bias = nn.Parameter(torch.randn(channels))

    def forward(self, x: Any) -> Any:
        u = x.mean(1, keepdim=True)
        s = (x - u).pow(2).mean(1, keepdim=True)
        x = (x - u) / torch.sqrt(s + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class Gamma(nn.Module):  # type: ignore[misc, name-defined]
    """A factor per channel."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(*shape) + 0.5)

    def forward(self, x: Any) -> Any:
        return self.gamma * x


class _Permuted(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Any) -> Any:
        return x.permute(*self.order)


def _convnext(channels: int, linear: bool) -> Any:
    """ConvNeXt's block, with linear layers over the channels or 1x1 convolutions."""
    wide = 3 * channels
    if linear:
        body = [
            nn.Conv2d(channels, channels, 5, padding=2, groups=channels), _Permuted(0, 2, 3, 1),
            nn.LayerNorm(channels, eps=1e-6), nn.Linear(channels, wide), nn.GELU(),
            nn.Linear(wide, channels), Gamma(channels), _Permuted(0, 3, 1, 2),
        ]  # fmt: skip
    else:
        body = [
            nn.Conv2d(channels, channels, 5, padding=2, groups=channels), MeanNorm(channels),
            nn.Conv2d(channels, wide, 1), nn.GELU(), nn.Conv2d(wide, channels, 1),
            Gamma(channels, 1, 1),
        ]  # fmt: skip
    return Block(lambda m, x: x + m.body(x), body=nn.Sequential(*body))


def _unet(mode: str) -> Any:
    def compute(m: Any, x: Any) -> Any:
        a = m.down1(x)
        b = m.down2(F.max_pool2d(a, 2))
        if mode == "transposed":
            up = m.up(b)
        elif mode == "size":
            up = F.interpolate(b, size=a.shape[2:], mode="bilinear", align_corners=False)
        else:
            up = F.interpolate(b, scale_factor=2, mode="nearest")
        return m.last(m.join(torch.cat([up, a], 1)))

    return Block(
        compute, down1=conv_bn(3, 4, 3), down2=conv_bn(4, 8, 3),
        up=nn.ConvTranspose2d(8, 8, 2, 2), join=conv_bn(12, 4, 3), last=nn.Conv2d(4, 2, 1),
    )  # fmt: skip


def _vae() -> Any:
    def compute(m: Any, x: Any) -> Any:
        code = m.encoder(x)
        mean, log_var = m.mean(code), m.log_var(code)
        return m.decoder(mean), mean, log_var

    return Block(
        compute,
        encoder=nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(1)),
        mean=nn.Linear(256, 6),
        log_var=nn.Linear(256, 6),
        decoder=nn.Sequential(
            nn.Linear(6, 256), nn.ReLU(), nn.Unflatten(1, (4, 8, 8)),
            nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.Sigmoid(),
        ),
    )  # fmt: skip


def _siamese() -> Any:
    trunk = nn.Sequential(conv_bn(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 6))
    return Block(lambda m, a, b: m.last((m.trunk(a) - m.trunk(b)) ** 2), trunk=trunk,
                 last=nn.Linear(6, 1))  # fmt: skip


def _two_heads() -> Any:
    def compute(m: Any, x: Any) -> Any:
        x = m.trunk(x)
        value = torch.tanh(m.value(F.relu(m.v(x)).view(x.size(0), -1)))
        return F.log_softmax(m.policy(F.relu(m.p(x)).flatten(1)), dim=1), value

    return Block(
        compute, trunk=conv_bn(3, 4, 3), p=nn.Conv2d(4, 2, 1), v=nn.Conv2d(4, 1, 1),
        policy=nn.Linear(512, 7), value=nn.Linear(256, 1),
    )  # fmt: skip


def _inception() -> Any:
    return Block(
        lambda m, x: torch.cat([m.a(x), m.b(x), m.c(F.avg_pool2d(x, 3, 1, 1))], 1),
        a=conv_bn(3, 2, 1), b=nn.Sequential(conv_bn(3, 2, 1), conv_bn(2, 4, 3)), c=conv_bn(3, 2, 1),
    )  # fmt: skip


class Standardised(nn.Module):  # type: ignore[misc, name-defined]
    """Normalisation of the images inside the network."""

    def forward(self, x: Any) -> Any:
        mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        return (x - mean) / std


class _Lambda(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, compute: Callable[[Any], Any]) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, x: Any) -> Any:
        return self.compute(x)


MODULES: dict[str, Callable[[], Any]] = {
    "lenet": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 8, 5), nn.Tanh(),
        nn.Flatten(), nn.Linear(32, 10), nn.Tanh(), nn.Linear(10, 5), nn.Softmax(1),
    ),
    "resnet": lambda: nn.Sequential(
        conv_bn(3, 4, 3), nn.MaxPool2d(3, 2, 1), _basic(4, 4, 1), _basic(4, 8, 2), *_head(8)
    ),
    "resnet_flatten": lambda: nn.Sequential(
        conv_bn(3, 4, 3), _basic(4, 8, 2), nn.AdaptiveAvgPool2d((1, 1)),
        _Lambda(lambda x: torch.flatten(x, 1)), nn.Linear(8, 5), nn.LogSoftmax(dim=-1),
    ),
    "mobilenet_v2": lambda: nn.Sequential(
        conv_bn(3, 4, 3, nn.ReLU6), _inverted(4, 4, 1, nn.ReLU6), _inverted(4, 6, 2, nn.ReLU6),
        _Lambda(lambda x: x.mean([2, 3])), nn.Dropout(0.2), nn.Linear(6, 5),
    ),
    "mobilenet_v3": lambda: nn.Sequential(
        conv_bn(3, 4, 3, nn.Hardswish, stride=2),
        _inverted(4, 4, 1, nn.Hardswish, lambda n: _excite(n, 4, nn.ReLU, nn.Hardsigmoid)),
        *_head(4), nn.Hardswish(),
    ),
    "efficientnet": lambda: nn.Sequential(
        conv_bn(3, 4, 3, nn.SiLU, stride=2),
        _inverted(4, 4, 1, nn.SiLU, lambda n: _excite(n, 2, nn.SiLU, nn.Sigmoid)), *_head(4),
    ),
    "senet": lambda: nn.Sequential(conv_bn(3, 4, 3), _viewed_excite(4, 2), *_head(4)),
    "squeezenet": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), _fire(4, 2, 4),
        nn.Dropout(), nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ),
    "shufflenet": lambda: nn.Sequential(
        conv_bn(3, 4, 3), _shuffle_unit(4, 2), _shuffle_unit(8, 1),
        _Lambda(lambda x: x.mean([2, 3])), nn.Linear(8, 5),
    ),
    "densenet": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), _dense(4, 2, 3), nn.BatchNorm2d(10), nn.ReLU(),
        nn.Conv2d(10, 4, 1), nn.AvgPool2d(2), *_head(4),
    ),
    "convnext": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 2, 2), LastNorm(4, eps=1e-6), _convnext(4, True),
        _Lambda(lambda x: x.mean([-2, -1])), nn.LayerNorm(4), nn.Linear(4, 5),
    ),
    "convnext_pool": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 2, 2), LastNorm(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(1),
        nn.LayerNorm(4),
    ),
    "convnext_maps": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 2, 2), MeanNorm(4), _convnext(4, False), *_head(4)
    ),
    "unet": lambda: _unet("nearest"),
    "unet_size": lambda: _unet("size"),
    "unet_transposed": lambda: _unet("transposed"),
    "vae": _vae,
    "siamese": _siamese,
    "two_heads": _two_heads,
    "inception": lambda: nn.Sequential(_inception(), *_head(8)),
    "standardised": lambda: nn.Sequential(Standardised(), conv_bn(3, 4, 3), *_head(4)),
    "norms": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 4, 3),
        nn.InstanceNorm2d(4, affine=True), nn.PReLU(4), *_head(4),
    ),
    "local_response": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.LocalResponseNorm(3)),
    "instance_norm": lambda: nn.Sequential(nn.InstanceNorm2d(3), nn.Conv2d(3, 4, 3), nn.PReLU()),
    "batch_norms": lambda: nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten(),
        nn.BatchNorm1d(784), nn.Linear(784, 3),
    ),
    "activations": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ELU(), nn.CELU(0.5), nn.SELU(), nn.GELU(), nn.GELU("tanh"),
        nn.Mish(), nn.Softplus(), nn.Softsign(), nn.LeakyReLU(0.1), nn.Hardtanh(-2, 3),
        nn.LogSigmoid(), nn.Hardswish(), nn.Hardsigmoid(), nn.SiLU(), nn.ReLU6(),
    ),
    "pads": lambda: nn.Sequential(
        nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(3, 4, 3, 2), nn.ReflectionPad2d(2),
        nn.Conv2d(4, 4, 3), nn.ReplicationPad2d((1, 0, 2, 1)), nn.Conv2d(4, 2, 3),
    ),
    "padding_modes": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 4, padding="same"),
        nn.Conv2d(4, 2, 3, padding=2, dilation=2, padding_mode="replicate"),
    ),
    "poolings": lambda: nn.Sequential(
        nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.AvgPool2d(2, 2, ceil_mode=True),
        nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.MaxPool2d(2, 1, dilation=2),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(3, 2),
    ),
    "global_max": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), _Lambda(lambda x: x.amax((2, 3))), nn.Linear(4, 2)
    ),
    "reduced": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), _Lambda(lambda x: F.avg_pool2d(x, 14).squeeze(-1).squeeze(-1)),
        nn.Linear(4, 2),
    ),
    "pixels": lambda: nn.Sequential(
        nn.PixelUnshuffle(2), nn.Conv2d(12, 8, 1), nn.PixelShuffle(2),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        nn.Upsample(size=(20, 24), mode="bilinear"), nn.Conv2d(2, 1, 1),
    ),
    "channel_shuffle": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.ChannelShuffle(3), nn.Conv2d(6, 2, 1)
    ),
    "affine": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), _Lambda(lambda x: 2.0 * x - 0.5), Gamma(1, 4, 1, 1),
        _Lambda(lambda x: 1.0 - x / 3.0), nn.ReLU(), _Lambda(lambda x: x.clamp(0, 1)),
    ),
    "gated": lambda: nn.Sequential(
        Block(lambda m, x: torch.sigmoid(m.a(x)) * torch.tanh(m.b(x)), a=nn.Conv2d(3, 4, 3),
              b=nn.Conv2d(3, 4, 3)),
        nn.Conv2d(4, 6, 1), nn.GLU(1), nn.Conv2d(3, 2, 1),
    ),
    "max_feature": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), _Lambda(lambda x: x[:, :2] + x[:, 2:]), nn.Conv2d(2, 2, 1),
    ),
    "per_pixel": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Dropout2d(), nn.Conv2d(4, 5, 1), nn.LogSoftmax(1)
    ),
    "nhwc": lambda: nn.Sequential(
        _Permuted(0, 3, 1, 2), nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1),
        _Permuted(0, 2, 3, 1), nn.Sigmoid(), nn.Flatten(), nn.Linear(512, 3),
    ),
    "nhwc_pixels": lambda: nn.Sequential(
        _Permuted(0, 3, 1, 2), nn.Conv2d(3, 4, 3, padding=1), _Permuted(0, 2, 3, 1), nn.Softmax(-1),
    ),
    "cbam": lambda: Block(
        lambda m, x: x * torch.sigmoid(m.conv(torch.cat([x.amax(1, True), x.mean(1, True)], 1))),
        conv=nn.Conv2d(2, 1, 7, padding=3),
    ),
    "lightcnn": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), _Lambda(lambda x: torch.max(*x.chunk(2, 1))), nn.Flatten(),
        nn.Linear(392, 6), _Lambda(lambda x: torch.max(*x.chunk(2, 1))),
    ),
    "dueling": lambda: Block(
        lambda m, x: m.value(x) + m.advantage(x) - m.advantage(x).mean(1, keepdim=True),
        value=nn.Sequential(nn.Flatten(), nn.Linear(768, 1)),
        advantage=nn.Sequential(nn.Flatten(), nn.Linear(768, 4)),
    ),
    "focus": lambda: nn.Sequential(
        _Lambda(lambda x: torch.cat([x[..., a::2, b::2] for b in (0, 1) for a in (0, 1)], 1)),
        nn.Conv2d(12, 4, 3), _Lambda(lambda x: x.abs().sum((2, 3))),
    ),
    "sequence": lambda: nn.Sequential(
        nn.Conv1d(3, 4, 3), nn.InstanceNorm1d(4), nn.Upsample(scale_factor=2, mode="linear"),
        nn.Upsample(size=19, mode="linear", align_corners=True),
        _Lambda(lambda x: x.clamp(min=-0.3)), nn.ConvTranspose1d(4, 2, 4, 2, 1),
        _Lambda(lambda x: torch.cat([x[..., 5:], x[..., :5]], 2).clamp(max=0.4)),
    ),
}  # fmt: skip
#: Shapes of samples other than (3, 16, 16).
SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "lenet": ((3, 16, 16),),
    "siamese": ((3, 16, 16), (3, 16, 16)),
    "poolings": ((3, 17, 16),),
    "nhwc": ((16, 16, 3),),
    "nhwc_pixels": ((16, 16, 3),),
    "sequence": ((3, 11),),
}
#: Networks that the exporter without dynamo cannot write.
UNKNOWN = {("channel_shuffle", False)}


def module(name: str) -> Any:
    """A network by name, with statistics that differ from their initial values."""
    torch.manual_seed(0)
    made = MODULES[name]()
    for part in made.modules():
        if getattr(part, "running_mean", None) is not None:
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 1.5)
            if part.weight is not None:
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias)
    return made.eval()


def samples(name: str, count: int) -> tuple[Any, ...]:
    """Inputs of a network."""
    torch.manual_seed(1)
    shapes = SHAPES.get(name, ((3, 16, 16),))
    return tuple(torch.randn(count, *shape) for shape in shapes)


def export(name: str, path: Any, dynamo: bool, dynamic: bool) -> Any:
    """Write a network as ``torch.onnx.export`` does; returns the module."""
    made, inputs = module(name), samples(name, 2)
    options: dict[str, Any] = {"dynamo": dynamo}
    if dynamo:
        options["verbose"] = False
    if dynamo and dynamic:
        sizes = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
        options["dynamic_shapes"] = (sizes,) if isinstance(made, Block) else sizes
    elif dynamic:
        names = [f"x{place}" for place in range(len(inputs))]
        options |= {"input_names": names, "dynamic_axes": {name: {0: "n"} for name in names}}
    torch.onnx.export(made, inputs, path, **options)
    return made
