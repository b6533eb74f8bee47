"""Random networks with all layers and arguments, and how to run them, from a seed.

``random_case(seed)`` always returns the same network for the same seed, so that a seed identifies a
failure. Sizes come in four styles, which cover small, large and wide maps and typical networks: see
:data:`STYLES`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn import layers as nn
from fastcnn.backends.graph import Port
from fastcnn.data import Preprocessing
from fastcnn.errors import ShapeError
from fastcnn.losses import (
    CrossEntropyLoss,
    FocalLoss,
    HuberLoss,
    JointLoss,
    Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from fastcnn.optim import SGD, Adam, AdamW, RMSprop

Shape = tuple[int, ...]
Random = np.random.Generator

#: Maximum channels, rows and columns of the input, maximum channels inside, maximum layers.
STYLES = {
    "small": (3, 9, 6, 7),
    "large": (3, 300, 4, 4),
    "wide": (257, 12, 257, 3),
    "usual": (32, 33, 48, 6),
    "vector": (1, 1, 300, 4),
    "sequence": (12, 200, 40, 6),
}
#: Approximate multiplications of a forward pass over the batch.
BUDGET = 30_000_000


@dataclass
class Case:
    """A network, its data and how it is run.

    Attributes
    ----------
    kind : str
        Kind of targets: ``"classes"``, ``"probabilities"`` or ``"values"``.
    """

    seed: int
    style: str
    model: nn.Model
    batch: int
    threads: int
    training: bool
    loss: Loss
    kind: str
    optimizer: Any
    clip_norm: float | None
    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None

    def __str__(self) -> str:
        weighted = "" if self.weights is None else ", weighted"
        return (
            f"seed {self.seed} ({self.style}): {self.model!r}, batch {self.batch}, "
            f"{self.threads} threads, {self.x.dtype} input {self.x.shape[1:]}, "
            f"{'training' if self.training else 'evaluation'}, {self.loss!r} of "
            f"{self.kind}{weighted}, {self.optimizer!r}, clip_norm {self.clip_norm}"
        )


def random_case(seed: int, budget: int = BUDGET, styles: tuple[str, ...] = tuple(STYLES)) -> Case:
    """The network of a seed, with its data."""
    r = np.random.default_rng(seed)
    style = str(r.choice(styles))
    model: nn.Model = _model(r, style, budget)
    of_ports = np.random.default_rng([seed, 2])
    if of_ports.random() < 0.15:
        model = _twins(of_ports, model)
    assert model.input_shape is not None
    output = model.output_shape(model.input_shape)
    work = max(1, model.flops(model.input_shape) // 2)
    batch = int(min(r.choice([1, 2, 3, 15, 16, 17, 33, r.integers(1, 66)]), 1 + budget // work))
    training = bool(r.random() < 0.7)
    normalised = any(isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d) for layer in _all(model))
    if normalised:
        batch = max(batch, 2)  # one value has no variance
    _randomise_statistics(r, model)
    if len(model.input_shape) > 1 and r.random() < 0.3:
        mean, std = r.uniform(0, 1, model.input_shape[0]), r.uniform(0.2, 2, model.input_shape[0])
        model.preprocessing = Preprocessing(tuple(mean.tolist()), tuple(std.tolist()))
    kinds = ["classes", "classes", "probabilities", "values"] if len(output) == 1 else ["values"]
    if output == (1,):
        kinds = ["classes", "values"]
    kind = str(r.choice(kinds))
    loss: Loss = CrossEntropyLoss(float(r.choice([0.0, 0.1])))
    if kind == "values" or output == (1,) or (kind == "classes" and r.random() < 0.2):
        loss = MSELoss()
    loss = _other_loss(np.random.default_rng([seed, 1]), loss, kind, output)
    weights = r.uniform(0.1, 2.0, 2 * batch) if r.random() < 0.3 else None
    if ports := model.graph().outputs:
        kind, loss = "several", _joint_loss(of_ports, ports)
    return Case(
        seed, style, model, batch, int(r.integers(1, 5)), training, loss, kind,
        _optimizer(r), float(r.uniform(0.01, 2)) if r.random() < 0.3 else None,
        _images(r, 2 * batch, model.input_shape), _targets(r, kind, 2 * batch, output, loss),
        weights,
    )  # fmt: skip


def _twins(r: Random, model: nn.Model) -> nn.Model:
    """One network on two inputs, with its results as one or two outputs."""
    assert model.input_shape is not None
    left, right = nn.Input(model.input_shape, "left"), nn.Input(model.input_shape, "right")
    first, second = model(left, name="twin"), model(right)
    if len(first.shape) == 1 and r.random() < 0.3:
        return nn.Model((left, right), nn.Concat()(first * second, second))
    return nn.Model((left, right), {"difference": first - second, "second": second})


def _joint_loss(r: Random, ports: Sequence[Port]) -> JointLoss:
    losses = [
        _some_classes(port.shape[0]) if port.shape[0] > 1 and r.random() < 0.6 else MSELoss()
        for port in ports
    ]
    return JointLoss(tuple(losses), tuple(r.uniform(0.1, 2.0, len(losses)))).bound(ports)


def _some_classes(count: int) -> CrossEntropyLoss:
    """With weights for an even number of classes, and one ignored class for 3, 6, 9 ..."""
    weight = tuple(np.linspace(0.5, 2.0, count)) if count % 2 == 0 else None
    return CrossEntropyLoss(weight=weight, ignore_index=None if count % 3 else 0)


def _other_loss(r: Random, loss: Loss, kind: str, output: Shape) -> Loss:
    """Another loss of the same targets, for half of the networks."""
    if r.random() < 0.5 or kind == "probabilities":
        return loss
    if isinstance(loss, MSELoss):
        # Not L1Loss: where its slope jumps, rounding decides.
        choices: list[Loss] = [HuberLoss(0.7), SmoothL1Loss(0.7)]
    else:
        weight = tuple(r.uniform(0.1, 2.0, output[0]).tolist())
        choices = [CrossEntropyLoss(0.1, weight), NLLLoss(weight), FocalLoss(1.5, weight)]
    return choices[int(r.integers(len(choices)))]


def _images(r: Random, count: int, shape: Shape) -> np.ndarray:
    if len(shape) > 1 and r.random() < 0.3:
        return r.integers(0, 256, (count, *shape), dtype=np.uint8)
    return r.standard_normal((count, *shape)).astype(np.float32)


def _targets(r: Random, kind: str, count: int, output: Shape, loss: Any) -> np.ndarray:
    if kind == "several":
        targets = [
            r.integers(0, port.shape[0], (count, *port.shape[1:]))
            if each.classes
            else r.standard_normal((count, *port.shape))
            for each, port in zip(loss.losses, loss.ports, strict=True)
        ]
        whole: np.ndarray = loss.pack(targets, np.float32)
        return whole
    if kind == "classes":
        return r.integers(0, output[0], count)
    if kind == "probabilities":
        return r.dirichlet(np.ones(output[0]), count).astype(np.float32)
    return r.standard_normal((count, *output)).astype(np.float32)


def _optimizer(r: Random) -> Any:
    decay = float(r.choice([0.0, 0.01]))
    kind = r.choice(["sgd", "nesterov", "plain", "adam", "adamw", "rmsprop", "centred"])
    if kind == "plain":
        return SGD(lr=0.1, weight_decay=decay)
    if kind in ("sgd", "nesterov"):
        return SGD(lr=0.1, momentum=0.9, weight_decay=decay, nesterov=kind == "nesterov")
    if kind == "adam":
        return Adam(lr=0.01, weight_decay=decay, betas=(0.8, float(r.choice([0.9, 0.999]))))
    if kind == "adamw":
        return AdamW(lr=0.01, weight_decay=0.1, eps=1e-3)
    return RMSprop(
        lr=0.01, alpha=0.9, eps=1e-3, momentum=float(r.choice([0.0, 0.9])), weight_decay=decay,
        centered=kind == "centred",
    )  # fmt: skip


def _all(model: Any) -> list[Any]:
    layers = list(getattr(model, "layers", {}).values())
    return [model] + [found for layer in layers for found in _all(layer)]


def _randomise_statistics(r: Random, model: nn.Model) -> None:
    """Set weights and running statistics of normalisations as if they had been trained."""
    state, made = {}, {}
    for key, value in model.state_dict().items():
        # A layer that is used twice has its arrays under two names.
        if id(value) not in made:
            made[id(value)] = value
            if key.endswith("running_mean"):
                made[id(value)] = r.standard_normal(value.shape).astype(np.float32)
            elif key.endswith("running_var"):
                made[id(value)] = r.uniform(0.2, 2, value.shape).astype(np.float32)
            elif (value.ndim == 1 or np.ptp(value) == 0) and value.dtype == np.float32:
                noise = 0.3 * r.standard_normal(value.shape)
                made[id(value)] = (value + noise).astype(np.float32)
        state[key] = made[id(value)]
    model.load_state_dict(state)


def _model(r: Random, style: str, budget: int) -> nn.Sequential:
    """A chain of layers; a layer that does not fit or costs too much is drawn again."""
    channels, size, inside, most = STYLES[style]
    while True:
        if style == "vector":
            shape: Shape = (int(r.integers(1, 301)),)
        elif style == "sequence":
            shape = (_size(r, channels), _size(r, size))
        else:
            c, h, w = (_size(r, limit) for limit in (channels, size, size))
            shape = (c, h, w)
        current, layers, left = shape, [], budget
        for _ in range(int(r.integers(1, most + 1))):
            for _ in range(8):
                draw = (_vector_layer, _sequence_layer, _maps_layer)[len(current) - 1]
                layer = draw(r, current, inside)
                try:
                    after, cost = layer.output_shape(current), layer.flops(current) // 2
                except ShapeError:
                    continue
                if cost <= left and np.prod(after) <= 400_000:
                    current, left = after, left - cost
                    layers.append(layer)
                    break
        if len(current) > 1 and r.random() < 0.8:
            if len(current) == 3 and r.random() < 0.3:
                layers.append(nn.GlobalAvgPool2d())
                current = layers[-1].output_shape(current)
            layers.append(nn.Flatten())
            current = (int(np.prod(current)),)
        if len(current) == 1 and (r.random() < 0.8 or current[0] > 300):
            outputs = int(r.choice([1, 2, 3, 10, 17, 33]))
            if current[0] * outputs <= budget:
                layers.append(
                    nn.Linear(current[0], outputs, bias=_yes(r), seed=int(r.integers(99)))
                )
                current = (outputs,)
        computes = any(not isinstance(layer, (nn.Dropout, nn.Identity)) for layer in layers)
        if computes and np.prod(current) <= 20_000:
            return nn.Sequential(*layers, input_shape=shape)


def _size(r: Random, largest: int) -> int:
    """A size up to a limit, often a small one, the limit or a round one."""
    choice = r.random()
    if choice < 0.1:
        return 1
    if choice < 0.2:
        return largest
    if choice < 0.5:
        return int(min(largest, r.choice([2, 3, 4, 8, 14, 16, 17, 28, 32])))
    return int(r.integers(1, largest + 1))


def _yes(r: Random) -> bool:
    return bool(r.random() < 0.7)


def _window(r: Random, shape: Shape, largest: int = 3) -> dict[str, Any]:
    """Kernel size, stride and padding of a window that fits a map."""
    kernel = tuple(int(r.integers(1, min(largest, size) + 1)) for size in shape[1:])
    return {
        "kernel_size": kernel,
        "stride": tuple(int(r.integers(1, 4)) for _ in kernel),
        "padding": tuple(int(r.integers(0, size // 2 + 1)) for size in kernel),
    }


def _convolution(r: Random, shape: Shape, inside: int) -> nn.Conv2d:
    channels = shape[0]
    outputs = _size(r, inside)
    arguments: dict[str, Any] = {"bias": _yes(r), "seed": int(r.integers(99))}
    arguments["max_norm"] = float(r.uniform(0.1, 1.0)) if r.random() < 0.1 else None
    if r.random() < 0.5:
        # Sizes with fast algorithms.
        size = int(r.choice([1, 3, 3, 3, 5, 5, 7]))
        padding: Any = "same" if _yes(r) else int(r.integers(0, size))
        return nn.Conv2d(channels, outputs, size, padding=padding, **arguments)
    groups = int(r.choice([g for g in (1, 1, 2, 3, 4, channels) if channels % g == 0]))
    outputs = groups * max(1, outputs // groups)
    arguments |= _window(r, shape, 5) | {"groups": groups}
    dilation = [1, 1, (1, 2), 2, (3, 1)][int(r.integers(5))]
    if r.random() < 0.3:
        arguments |= {"stride": 1, "padding": str(r.choice(["same", "valid"]))}
    elif r.random() < 0.3:
        arguments["padding"] = (int(r.integers(0, 5)), int(r.integers(0, 5)))
    made = nn.Conv2d(channels, outputs, dilation=dilation, **arguments)
    mode = ("zeros", "reflect", "replicate", "circular")[arguments["seed"] % 4]
    sides = zip(made.arguments["padding"], shape[1:], strict=True)
    if arguments.get("padding") == "valid" or any(max(side) >= size for side, size in sides):
        return made
    return nn.Conv2d(channels, outputs, dilation=dilation, padding_mode=mode, **arguments)


def _stage(r: Random, shape: Shape, inside: int) -> nn.Sequential:
    """A convolution with layers that the engine fuses to it."""
    layers: list[Any] = [_convolution(r, shape, inside)]
    layers += [nn.ReLU()] if _yes(r) else []
    return nn.Sequential(*layers, nn.MaxPool2d(2))


def _shared(r: Random, shape: Shape) -> nn.Sequential:
    """One layer used twice."""
    channels = shape[0]
    layer: Any = nn.Conv2d(channels, channels, 3, padding="same", bias=_yes(r), seed=1)
    if r.random() < 0.3:
        layer = nn.BatchNorm2d(channels, affine=_yes(r))
    return nn.Sequential(layer, _element(r), layer)


def _branched(r: Random, shape: Shape, inside: int) -> nn.Model:
    """Joined branches of a map: concatenations, differences, products and gates."""
    channels, x = shape[0], nn.Input(shape)

    def conv(value: Any, outputs: int, size: int = 3) -> Any:
        made = nn.Conv2d(value.shape[0], outputs, size, padding="same", bias=_yes(r), seed=size)
        return _element(r)(made(value)) if r.random() < 0.5 else made(value)

    outputs = _size(r, min(inside, 24))
    left, right = conv(x, outputs), conv(x, outputs, int(r.choice([1, 3, 5])))
    kind = str(r.choice(["concat", "nested", "difference", "product", "gate", "pixels", "twice"]))
    if kind == "concat":
        y = nn.Concat()(*([x, left, right] if _yes(r) else [left, x, left]))
    elif kind == "nested":
        inner = nn.Concat()(left, right)
        y = nn.Concat()(inner, conv(inner, int(r.integers(1, 5))), left)
    elif kind == "difference":
        y = _element(r)(left - right)
    elif kind == "product":
        y = left * (left if r.random() < 0.3 else right)
    elif kind == "gate":
        gate = nn.Sigmoid()(conv(nn.GlobalAvgPool2d()(right), outputs, 1))
        y = gate * left if _yes(r) else left * gate
    elif kind == "pixels":
        y = left * nn.Sigmoid()(conv(right, 1))
    else:
        shared = nn.Conv2d(channels, outputs, 3, padding=1, seed=5)
        y = nn.Concat()(shared(x), shared(_element(r)(x)), left - right)
    return nn.Model(x, _element(r)(y) if _yes(r) else y)


def _parted(r: Random, shape: Shape, inside: int) -> nn.Model:
    """Divided channels: halves as in ShuffleNet, parts of parts, or overlapping parts."""
    x, outputs = nn.Input(shape), 2 * _size(r, min(inside, 20))
    of_maps = len(shape) == 3

    def conv(value: Any, outputs: int, size: int = 3) -> Any:
        channels = value.shape[0]
        if len(shape) == 1:
            made: Any = nn.Linear(channels, outputs, bias=_yes(r), seed=size)
        else:
            kind: Any = nn.Conv2d if of_maps else nn.Conv1d
            made = kind(channels, outputs, size, padding="same", bias=_yes(r), seed=size)
        return _element(r)(made(value)) if r.random() < 0.5 else made(value)

    whole = x if r.random() < 0.2 and shape[0] > 1 else conv(x, outputs)
    channels = whole.shape[0]
    first = int(r.integers(1, channels))
    kept, rest = nn.Split((first, channels - first))(whole)
    kind = str(r.choice(["shuffle", "parts", "overlap", "one", "values"]))
    if kind == "shuffle" and channels % 2 == 0:
        kept, rest = nn.Chunk(2)(whole)
        y = nn.Concat()(kept, conv(rest, channels // 2))
        y = nn.ChannelShuffle(2)(y) if len(shape) > 1 else y
    elif kind == "parts":
        part = nn.Narrow(int(r.integers(0, rest.shape[0])), 1)(rest)
        y = nn.Concat()(conv(part, 2), kept, part)
    elif kind == "overlap":
        length = int(r.integers(1, channels + 1))
        parts = [
            nn.Narrow(int(r.integers(0, channels - length + 1)), length)(whole) for _ in range(3)
        ]
        y = nn.Concat()(parts[0] + parts[1], conv(parts[2], 3), whole)
    elif kind == "one":
        y = conv(kept if _yes(r) else rest, outputs)
    else:
        y = nn.Concat()(_element(r)(rest), _element(r)(kept), kept)
    return nn.Model(x, _element(r)(y) if _yes(r) else y)


def _transposed(r: Random, shape: Shape, inside: int) -> nn.ConvTranspose2d:
    channels = shape[0]
    groups = int(r.choice([g for g in (1, 1, 2, channels) if channels % g == 0]))
    stride = (int(r.integers(1, 4)), int(r.integers(1, 4)))
    return nn.ConvTranspose2d(
        channels, groups * max(1, _size(r, min(inside, 40)) // groups),
        (int(r.integers(1, 6)), int(r.integers(1, 6))), stride=stride,
        padding=(int(r.integers(0, 3)), int(r.integers(0, 3))),
        output_padding=tuple(int(r.integers(0, step)) for step in stride),
        groups=groups, bias=_yes(r), dilation=[1, 1, 2, (2, 1)][int(r.integers(4))],
        seed=int(r.integers(99)),
    )  # fmt: skip


def _maps_layer(r: Random, shape: Shape, inside: int) -> Any:
    kinds: dict[str, tuple[float, Callable[[], Any]]] = {
        "convolution": (6, lambda: _convolution(r, shape, inside)),
        "transposed": (1, lambda: _transposed(r, shape, inside)),
        "max": (1, lambda: _maximum(r, shape, nn.MaxPool2d)),
        "tiling": (1, lambda: nn.MaxPool2d(2)),
        "shared": (0.7, lambda: _shared(r, shape)),
        "stage": (2, lambda: _stage(r, shape, inside)),
        "average": (1, lambda: _average(r, shape)),
        "adaptive": (1, lambda: nn.AdaptiveAvgPool2d(_adaptive(r, shape))),
        "adaptive max": (0.5, lambda: nn.AdaptiveMaxPool2d(_adaptive(r, shape))),
        "moving": (1.5, lambda: _moving(r, shape)),
        "norm": (1, lambda: _normalisation(r, nn.BatchNorm2d, shape[0])),
        "sample norm": (1.5, lambda: _within_sample(r, shape)),
        "block": (1, lambda: _block(r, shape)),
        "branched": (2, lambda: _branched(r, shape, inside)),
        "parted": (1, lambda: _parted(r, shape, inside)),
        "dropout2d": (0.5, lambda: nn.Dropout2d(float(r.choice([0.1, 0.5, 0.9])))),
        "element": (4, lambda: _element(r)),
    }
    shares = np.array([share for share, _ in kinds.values()])
    return kinds[str(r.choice(list(kinds), p=shares / shares.sum()))][1]()


def _adaptive(r: Random, shape: Shape) -> Any:
    sizes = [int(r.integers(1, min(size + 3, 12))) for size in shape[1:]]
    return (*sizes[:-1], None if r.random() < 0.2 else sizes[-1])


def _maximum(r: Random, shape: Shape, kind: Any) -> Any:
    gaps = tuple(int(r.choice([1, 1, 2])) for _ in shape[1:])
    return kind(**_window(r, shape), dilation=gaps, ceil_mode=not _yes(r))


def _average(r: Random, shape: Shape) -> nn.AvgPool2d:
    return nn.AvgPool2d(
        **_window(r, shape), ceil_mode=not _yes(r), count_include_pad=_yes(r),
        divisor_override=None if _yes(r) else int(r.integers(1, 9)),
    )  # fmt: skip


def _moving(r: Random, shape: Shape) -> Any:
    """A layer that copies or interpolates pixels of a map."""
    sides = tuple(int(r.integers(0, min(3, 1 + (min(shape[1:]) - 1)))) for _ in range(4))
    factor = int(r.choice([1, 2, 2, 3]))
    corners = [None, False, True][int(r.integers(3))]
    size = (int(r.integers(1, 12)), int(r.integers(1, 12)))
    groups = int(r.choice([g for g in (1, 2, 3, 4, shape[0]) if shape[0] % g == 0]))
    kinds: list[Callable[[], Any]] = [
        lambda: nn.ZeroPad2d(tuple(side - int(r.integers(0, 2)) for side in sides)),
        lambda: nn.ReflectionPad2d(sides),
        lambda: (nn.ReplicationPad2d, nn.CircularPad2d)[sum(sides) % 2](sides),
        lambda: nn.Upsample(scale_factor=(int(r.integers(1, 4)), int(r.integers(1, 4)))),
        lambda: nn.Upsample(size=size),
        lambda: nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=corners),
        lambda: nn.Upsample(size=size, mode="bilinear", align_corners=corners),
        lambda: nn.PixelShuffle(factor), lambda: nn.PixelUnshuffle(factor),
        lambda: nn.ChannelShuffle(groups),
    ]  # fmt: skip
    return kinds[int(r.integers(len(kinds)))]()


def _sequence_layer(r: Random, shape: Shape, inside: int) -> Any:
    """A layer of sequences ``(C, L)``."""
    channels, length = shape
    groups = int(r.choice([g for g in (1, 1, 2, 3, channels) if channels % g == 0]))
    outputs = groups * max(1, _size(r, inside) // groups)
    kernel, stride = int(r.integers(1, min(8, length) + 1)), int(r.integers(1, 4))
    seed, sides = int(r.integers(99)), (int(r.integers(0, 3)), int(r.integers(0, 3)))
    padding: Any = int(r.integers(0, 4))
    if stride == 1 and _yes(r):
        padding = "same"
    corners = [None, False, True][int(r.integers(3))]
    kinds: list[Callable[[], Any]] = [
        *[lambda: nn.Conv1d(
            channels, outputs, kernel, stride, padding, int(r.choice([1, 1, 2, 3])), groups,
            bias=_yes(r), seed=seed,
        )] * 4,
        lambda: nn.ConvTranspose1d(
            channels, outputs, kernel, stride, int(r.integers(0, 2)),
            output_padding=int(r.integers(0, stride)), groups=groups, bias=_yes(r), seed=seed,
        ),
        lambda: _maximum(r, shape, nn.MaxPool1d),
        lambda: nn.AvgPool1d(**_window(r, shape), ceil_mode=_yes(r), count_include_pad=_yes(r)),
        lambda: nn.AdaptiveAvgPool1d(_adaptive(r, shape)),
        lambda: nn.AdaptiveMaxPool1d(_adaptive(r, shape)),
        lambda: _normalisation(r, nn.BatchNorm1d, channels),
        lambda: nn.ZeroPad1d(sides), lambda: nn.ReflectionPad1d(sides),
        lambda: (nn.ReplicationPad1d, nn.CircularPad1d)[sum(sides) % 2](sides),
        lambda: nn.Upsample(scale_factor=int(r.integers(1, 4))),
        lambda: nn.Upsample(scale_factor=int(r.integers(1, 4)), mode="linear",
                            align_corners=corners),
        lambda: nn.Upsample(size=int(r.integers(1, 40)), mode="linear", align_corners=corners),
        lambda: nn.ChannelShuffle(groups),
        lambda: _parted(r, shape, inside),
        *[lambda: _element(r)] * 4,
    ]  # fmt: skip
    return kinds[int(r.integers(len(kinds)))]()


def _normalisation(r: Random, kind: Any, features: int) -> Any:
    return kind(
        features, eps=float(r.choice([1e-5, 1e-3, 0.1])),
        momentum=[0.1, 0.1, 0.5, 1.0, None][int(r.integers(5))], affine=_yes(r),
        track_running_stats=bool(r.random() < 0.8),
    )  # fmt: skip


def _within_sample(r: Random, shape: Shape) -> Any:
    """A layer that reduces over sets within a sample; gradients of small sets nearly vanish."""
    eps, affine, channels = float(r.choice([1e-5, 1e-3, 0.1])), _yes(r), shape[0]
    last = int(r.integers(1, 1 + len(shape)))
    trailing, axes = shape[len(shape) - last :], range(1, 1 + len(shape))
    of_trailing = {"normalized_shape": trailing, "eps": eps, "elementwise_affine": affine}
    size = int(r.integers(1, 8))
    kinds: list[Callable[[], Any]] = [lambda: nn.Softmax(int(r.choice(axes)))]
    kinds += [lambda: nn.LogSoftmax(int(r.choice(axes)))]
    kinds += [lambda: nn.Scale(int(r.choice([1, channels])), 0.7)]
    if np.prod(trailing) > 3:
        kinds += [
            lambda: nn.LayerNorm(**of_trailing, bias=_yes(r)),
            lambda: nn.RMSNorm(**of_trailing),
        ]
    groups = [g for g in range(1, channels + 1) if channels % g == 0]
    groups = [g for g in groups if np.prod(shape) // g > 3]
    if groups:
        kinds.append(lambda: nn.GroupNorm(int(r.choice(groups)), channels, eps, affine))
    if len(shape) == 3:
        kinds.append(lambda: nn.LocalResponseNorm(size, 0.5, float(r.choice([0.5, 0.75, 1.0]))))
        if channels > 3:
            kinds.append(lambda: nn.LayerNorm2d(channels, eps, affine))
        if shape[1] * shape[2] > 3:
            kinds.append(lambda: nn.InstanceNorm2d(channels, eps, affine=affine))
    return kinds[int(r.integers(len(kinds)))]()


def _block(r: Random, shape: Shape) -> nn.Model:
    """A residual block, with or without a convolution in its shortcut."""
    channels, seed, stride = shape[0], int(r.integers(99)), int(r.integers(1, 3))
    layers: list[Any] = [
        nn.Conv2d(channels, channels, 3, padding=1, stride=stride, seed=seed), _element(r)
    ]  # fmt: skip
    if r.random() < 0.4:
        layers.insert(1, _normalisation(r, nn.BatchNorm2d, channels))
    shortcut: Any = None
    if stride != 1 or not _yes(r):
        shortcut = nn.Conv2d(channels, channels, 1, stride=stride, seed=seed + 1)
    of_norms = np.random.default_rng([seed, 3])
    if of_norms.random() < 0.4:
        layers.append(_normalisation(of_norms, nn.BatchNorm2d, channels))
    if shortcut is not None and of_norms.random() < 0.3:
        shortcut = nn.Sequential(shortcut, _normalisation(of_norms, nn.BatchNorm2d, channels))
    block = nn.Residual(nn.Sequential(*layers), shortcut)
    return nn.Sequential(block, nn.ReLU()) if of_norms.random() < 0.5 else block


def _vector_layer(r: Random, shape: Shape, inside: int) -> Any:
    choice = r.random()
    if choice < 0.5:
        return nn.Linear(shape[0], _size(r, inside), bias=_yes(r), seed=int(r.integers(99)))
    if choice < 0.6:
        return _normalisation(r, nn.BatchNorm1d, shape[0])
    if choice < 0.65:
        rows = int(r.choice([n for n in (1, 2, 3, 5) if shape[0] % n == 0]))
        return nn.Unflatten(1, (-1, rows, 1) if _yes(r) else (rows, -1))
    if choice < 0.75:
        return _within_sample(r, shape)
    if choice < 0.8:
        return _joined_vectors(r, shape, inside)
    if choice < 0.84:
        return _parted(r, shape, inside)
    return _element(r)


def _joined_vectors(r: Random, shape: Shape, inside: int) -> nn.Model:
    """Joined vectors."""
    x, outputs = nn.Input(shape), _size(r, inside)
    left, right = (nn.Linear(shape[0], outputs, seed=seed)(x) for seed in (3, 4))
    kind = int(r.integers(4))
    if kind == 0:
        return nn.Model(x, nn.Concat()(left, nn.ReLU()(right), x))
    if kind == 1:
        return nn.Model(x, nn.Multiply()(left, nn.Sigmoid()(right)))
    if kind == 2:
        return nn.Model(x, left * nn.Linear(shape[0], 1, seed=5)(x))
    return nn.Model(x, nn.ReLU()(left - right))


def _element(r: Random) -> Any:
    """A layer for any shape."""
    kinds: list[Callable[[], Any]] = [
        nn.ReLU, nn.ReLU, nn.ReLU, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.Identity,
        lambda: nn.LeakyReLU(float(r.choice([0.01, 0.2, 0.0]))),
        lambda: nn.ELU(float(r.choice([1.0, 0.3]))),
        lambda: nn.GELU(str(r.choice(["none", "tanh"]))),
        lambda: nn.Softplus(float(r.choice([1.0, 2.0])), float(r.choice([20.0, 1.0]))),
        lambda: nn.Dropout(float(r.choice([0.1, 0.5, 0.9]))),
    ]  # fmt: skip
    return kinds[int(r.integers(len(kinds)))]()
