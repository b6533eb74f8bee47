"""A network in 8-bit integers: its steps, their constants, and the same arithmetic in numpy.

Activations are ``scale * (q - zero)`` with q in -128..127, one scale and zero per map; weights are
``scale[o] * q`` with q in -127..127, one scale per output channel. Products are accumulated in
32-bit integers and rescaled to the output by a 64-bit integer multiplication and a shift: Jacob et
al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
arXiv:1712.05877. Element-wise functions are tables of 256 values.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.backends import im2col
from fastcnn.backends.graph import INPUT, Node
from fastcnn.errors import ConfigurationError, DataError
from fastcnn.interop.c.integers import (
    ADD_BITS,
    HIGH,
    LOW,
    SAMPLE,
    SHARES,
    IntegerStep,
    Scale,
    multiplier_of,
    rescaled,
    sample_arrays,
    sample_step,
    shifted,
)
from fastcnn.interop.inference_plan import POOLING, WEIGHTED, Plan, scale_and_shift
from fastcnn.interop.sample_steps import MOVING
from fastcnn.layers import Model
from fastcnn.operations import OPERATIONS, Elementwise

#: Most samples processed at a time.
CHUNK = 128
#: Largest bias in units of a product.
LARGEST_BIAS = 2**30
#: Why an operation has no integer form, and what to do.
REASONS = {
    "log_softmax": ": 8 bits hold no range of logarithms; leave it out, NAME_predict gives the "
    "probabilities of logits",
    "local_response_norm": ": a power of each sum of squares has no exact integers; export it in "
    "floats",
}
#: Values of a step examined per group of samples, the bins of their histogram, and the fractions of
#: their range that are tried.
LOOKED_AT, BINS = 1 << 16, 2048
PARTS = np.linspace(1.0, 0.4, 61)


@dataclass(frozen=True)
class IntegerNetwork:
    """A network in 8-bit integers.

    Attributes
    ----------
    plan : Plan
        The float network; offsets and sizes are the same, in bytes.
    input_scale : Scale
    steps : tuple of IntegerStep or None
        One per step of the plan; None if fused into an earlier one.
    """

    plan: Plan
    model: Model
    input_scale: Scale
    steps: tuple[IntegerStep | None, ...]

    def outputs(self, samples: np.ndarray) -> np.ndarray:
        """The network's outputs in float32, bitwise equal to those of the C code.

        Parameters
        ----------
        samples : ndarray, shape (N, ...)
            As for the C functions: floats or bytes, before preprocessing.
        """
        parts = [
            self._run(samples[start : start + CHUNK]) for start in range(0, len(samples), CHUNK)
        ]
        return np.concatenate(parts).reshape(len(samples), *self.model.graph().output_shape)

    def _run(self, samples: np.ndarray) -> np.ndarray:
        made: dict[int, np.ndarray] = {INPUT: self._input(samples)}
        scales = {INPUT: self.input_scale}
        for index, step in enumerate(self.steps):
            made[index], scales[index] = made[index - 1], scales[index - 1]
            if step is not None:
                inputs = _in_shape(step.node, [made[source] for source in step.inputs])
                zeros = [scales[source].zero for source in step.inputs]
                made[index], scales[index] = _compute(step, inputs, zeros), step.scale
        outputs, scale = made[index], scales[index]
        if outputs.dtype == np.float32:
            return outputs
        return np.float32(scale.scale) * (outputs - scale.zero).astype(np.float32)

    def _input(self, samples: np.ndarray) -> np.ndarray:
        if samples.dtype == np.uint8:
            tables = byte_tables(self)
            rows = np.arange(len(tables)).reshape(1, -1, *(1,) * (samples.ndim - 2))
            return tables[rows, samples]
        factor, summand = (
            part.astype(np.float32).reshape(1, -1, *(1,) * (samples.ndim - 2))
            for part in self.model.preprocessing.factors(False, samples.shape[1])
        )
        return self.input_scale.quantise(samples.astype(np.float32) * factor + summand)


def byte_tables(network: IntegerNetwork) -> np.ndarray:
    """The quantised value of each byte in each channel of a sample."""
    channels = network.plan.channels
    values = np.tile(np.arange(256, dtype=np.uint8), (channels, 1))
    converted = network.model.preprocessing.apply(values.T.reshape(256, channels, 1, 1))
    return network.input_scale.quantise(converted[:, :, 0, 0].T)


def quantise(model: Model, plan: Plan, samples: np.ndarray) -> IntegerNetwork:
    """Calibrate scales on samples, and quantise the weights.

    Parameters
    ----------
    model : Model
        The network of ``plan``; its preprocessing is applied to ``samples``.
    samples : ndarray, shape (N, ...)
        A few hundred training samples, as for the model.

    Raises
    ------
    ConfigurationError
        If a layer has no integer arithmetic.
    DataError
        If there are no samples, or the network's outputs are not finite.
    """
    if len(samples) == 0:
        raise DataError("quantisation needs samples to choose scales by, got none")
    ranges = _ranges(model, plan, samples)
    scales = {key: Scale.of_range(*bounds) for key, bounds in ranges.items()}
    steps: list[IntegerStep | None] = []
    for index, step in enumerate(plan.steps):
        kind = step.node.operation
        if _joins(plan, index):
            steps.append(None)
            continue
        following = _joins(plan, index + 1)
        scale = scales[index + 1 if following else index]
        low, high = _bounds(plan.steps[index + 1].node, scale) if following else (LOW, HIGH)
        if kind in (*POOLING, *MOVING, "narrow"):
            # Maxima, means and moves of values keep their scale.
            scale = scales[index] = scales[step.inputs[0]]
        if kind == "softmax":
            scale = scales[index] = SHARES
        is_last = index == len(plan.steps) - 1
        given = [scales[source] for source in step.inputs]
        arrays = _arrays(plan, step.node, given, scale, gives_floats=is_last)
        floats = is_last and kind in WEIGHTED
        steps.append(IntegerStep(step.node, step.inputs, scale, low, high, arrays, floats))
        scales[index] = scale
    return IntegerNetwork(plan, model, scales[INPUT], tuple(steps))


def _joins(plan: Plan, index: int) -> bool:
    """Whether a step is a ReLU fused into the previous step, as bounds of its output."""
    if not 0 < index < len(plan.steps):
        return False
    step, before = plan.steps[index], plan.steps[index - 1]
    return (
        step.node.operation in ("relu", "relu6")
        and step.in_place
        and step.inputs == (index - 1,)
        and before.node.operation in (*WEIGHTED, "add")
    )


def _bounds(relu: Node, scale: Scale) -> tuple[int, int]:
    if relu.operation == "relu":
        return max(scale.zero, LOW), HIGH
    return max(scale.zero, LOW), int(min(scale.zero + round(6.0 / scale.scale), HIGH))


def _ranges(model: Model, plan: Plan, samples: np.ndarray) -> dict[int, tuple[float, float]]:
    """The range of the input and of each step to be covered by 8-bit integers.

    That of the input is the full range. That of a step minimises the mean squared quantisation
    error over the samples, so that a few outliers do not make all other values coarse.
    """
    found: dict[int, tuple[float, float]] = {}
    for values in _values(model, plan, samples):
        for key, value in values.items():
            low, high = float(value.min()), float(value.max())
            if not np.isfinite([low, high]).all():
                raise DataError("the network's outputs are not finite: no scales can be calibrated")
            before = found.get(key, (low, high))
            found[key] = (min(before[0], low), max(before[1], high))
    counts = {key: np.zeros(BINS) for key in found if key != INPUT}
    for values in _values(model, plan, samples):
        for key in counts:
            some = values[key].reshape(-1)
            some = some[:: -(-some.size // LOOKED_AT)]
            low, high = found[key]
            width = max(high - low, BINS * np.finfo(np.float64).tiny)
            places = ((some.astype(np.float64) - low) * (BINS / width)).astype(np.int64)
            counts[key] += np.bincount(np.minimum(places, BINS - 1), minlength=BINS)
    return found | {key: _nearest(count, *found[key]) for key, count in counts.items()}


def _values(model: Model, plan: Plan, samples: np.ndarray) -> Iterator[dict[int, np.ndarray]]:
    """The input and the outputs of all steps, for groups of samples in turn."""
    for start in range(0, len(samples), CHUNK):
        part = model.preprocessing.apply(np.asarray(samples[start : start + CHUNK]))
        values = {INPUT: part}
        for index, step in enumerate(plan.steps):
            inputs = _in_shape(step.node, [values[source] for source in step.inputs])
            values[index] = _float_step(plan, step.node, inputs)
        yield values


def _nearest(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The part of a range with the smallest quantisation error for a histogram of values."""
    edges = np.linspace(low, high, BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    ranges = [(part * low, part * high) for part in PARTS]
    errors = []
    for bounds in ranges:
        scale = Scale.of_range(*bounds)
        errors.append((counts * (scale.real(scale.quantise(centres)) - centres) ** 2).sum())
    return ranges[int(np.argmin(errors))]


def _in_shape(node: Node, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """A step's inputs in the shapes that it reads, since flattening is not a step."""
    shapes = zip(inputs, node.input_shapes, strict=True)
    return [x.reshape(len(x), *shape) for x, shape in shapes]


def _float_step(plan: Plan, node: Node, inputs: list[np.ndarray]) -> np.ndarray:
    if node.operation == "batch_norm":
        scale, shift = (
            part.astype(np.float32).reshape(1, -1, *(1,) * (inputs[0].ndim - 2))
            for part in scale_and_shift(plan, node)
        )
        return inputs[0] * scale + shift
    record = OPERATIONS[node.operation]
    keys = [node.parameters.get(name) for name in record.parameters]
    parameters = [None if key is None else plan.state[key].astype(np.float32) for key in keys]
    function: Any = getattr(im2col, node.operation)
    return function(*inputs, *parameters, **node.arguments)


def _arrays(
    plan: Plan, node: Node, given: list[Scale], scale: Scale, *, gives_floats: bool
) -> dict[str, np.ndarray]:
    """A step's constants."""
    if node.operation in WEIGHTED:
        return _weights(plan, node, given[0], scale, gives_floats)
    if node.operation in ("add", "subtract", "concat"):
        factors = [round(one.scale / scale.scale * 2**ADD_BITS) for one in given]
        signs = (1, -1) if node.operation == "subtract" else 1
        return {"factor": np.array(factors, np.int64) * signs}
    if node.operation == "multiply":
        first, second = given
        return multiplier_of(np.array([first.scale * second.scale / scale.scale]))
    if node.operation in SAMPLE:
        return sample_arrays(plan, node, given[0], scale)
    if node.operation in (*POOLING, "narrow"):
        return {}
    record = OPERATIONS[node.operation]
    if node.operation == "batch_norm" or isinstance(record, Elementwise):
        return {"table": _table(plan, node, given[0], scale)}
    raise ConfigurationError(
        f"layer {node.name!r}: {node.operation} has no integer form"
        f"{REASONS.get(node.operation, '')}"
    )


def _weights(
    plan: Plan, node: Node, given: Scale, scale: Scale, gives_floats: bool
) -> dict[str, np.ndarray]:
    """Integer weights and biases, and the factors that rescale sums to the output's scale."""
    weight = plan.state[node.parameters["weight"]]
    if node.operation == "conv_transpose2d":
        weight = _outputs_first(weight, node.arguments["groups"])  # as for conv2d
    bias = np.zeros(len(weight))
    if "bias" in node.parameters:
        bias = plan.state[node.parameters["bias"]]
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    # Weights that vanish in comparison with a bias get no finer scale than the bias fits.
    least = np.abs(bias) / (given.scale * LARGEST_BIAS)
    weight_scale = np.maximum(np.where(largest > 0, largest, 1.0) / 127.0, least)
    by_output = weight_scale.reshape(-1, *(1,) * (weight.ndim - 1))
    arrays = {"weight": np.rint(weight / by_output).astype(np.int64)}
    unit = given.scale * weight_scale
    arrays["bias"] = np.rint(bias / unit).astype(np.int64)
    farthest = max(HIGH - given.zero, given.zero - LOW)
    sums = farthest * np.abs(arrays["weight"]).reshape(len(weight), -1).sum(axis=1)
    if (sums + np.abs(arrays["bias"])).max() >= 2**31:
        raise ConfigurationError(
            f"layer {node.name!r}: its sums of {weight[0].size:,} products do not fit integers of "
            "32 bits: export it in floats"
        )
    if gives_floats:
        return arrays | {"unit": unit.astype(np.float32)}
    return arrays | multiplier_of(unit / scale.scale)


def _table(plan: Plan, node: Node, given: Scale, scale: Scale) -> np.ndarray:
    """The output for each of 256 inputs; one row for all channels, or one per channel."""
    x = given.real(np.arange(LOW, HIGH + 1)).astype(np.float32)
    record = OPERATIONS[node.operation]
    if node.operation != "batch_norm" and not record.parameters:
        made = _float_step(plan, node, [x.reshape(1, 1, 256)])
        return scale.quantise(made.reshape(1, 256))
    channels = node.input_shapes[0][0]
    rows = np.tile(x, (channels, 1)).reshape(1, channels, 256)
    return scale.quantise(_float_step(plan, node, [rows])[0])


def _compute(step: IntegerStep, inputs: list[np.ndarray], zeros: list[int]) -> np.ndarray:
    """One step on int64 arrays."""
    node, arrays = step.node, step.arrays
    x = inputs[0]
    if node.operation in WEIGHTED:
        weight = arrays["weight"]
        if node.operation == "conv_transpose2d":
            weight = _outputs_first(weight, node.arguments["groups"])
        sums = np.rint(_exact(node, x - zeros[0], weight, None)).astype(np.int64)
        each = (1, -1, *(1,) * (sums.ndim - 2))
        sums = sums + arrays["bias"].reshape(each)
        if step.gives_floats:
            return sums.astype(np.float32) * arrays["unit"].reshape(each)
        scaled = rescaled(sums, arrays["multiplier"].reshape(each), arrays["shift"].reshape(each))
    elif node.operation in SAMPLE:
        return sample_step(step, x, zeros[0])
    elif node.operation == "narrow":
        start = node.arguments["start"]
        return x[:, start : start + node.output_shape[0]]
    elif node.operation == "multiply":
        total = (x - zeros[0]) * (inputs[1] - zeros[1])
        scaled = rescaled(total, arrays["multiplier"], arrays["shift"])
    elif node.operation in ("add", "subtract", "concat"):
        pairs = zip(inputs, zeros, arrays["factor"], strict=True)
        parts = [(one - zero) * factor for one, zero, factor in pairs]
        joined = np.concatenate(parts, axis=1) if node.operation == "concat" else sum(parts)
        scaled = shifted(joined, ADD_BITS)
    elif node.operation in POOLING:
        return _pool(node, x, zeros[0])
    else:
        table = arrays["table"]
        if len(table) == 1:
            return table[0][x - LOW]
        rows = np.arange(len(table)).reshape(1, -1, *(1,) * (x.ndim - 2))
        return table[rows, x - LOW]
    return np.clip(scaled + step.scale.zero, step.low, step.high)


def _exact(node: Node, *arrays: np.ndarray | None) -> np.ndarray:
    """The operation on integers, in float64, which is exact for sums below 2**53."""
    function: Any = getattr(im2col, node.operation)
    given = [None if array is None else array.astype(np.float64) for array in arrays]
    return function(*given, **node.arguments)


def _outputs_first(weight: np.ndarray, groups: int) -> np.ndarray:
    """Weights of shape (channels, outputs / groups, ...) as (outputs, channels / groups, ...).

    And back.
    """
    first, second, *kernel = weight.shape
    grouped = weight.reshape(groups, first // groups, second, *kernel)
    return grouped.swapaxes(1, 2).reshape(groups * second, first // groups, *kernel)


def _pool(node: Node, x: np.ndarray, zero: int) -> np.ndarray:
    """Maximum or mean over windows; means are rounded to nearest, halves up."""
    # float64 errors at a half are much smaller than this, and other means are farther from it.
    nearest = np.floor(_exact(node, x - zero) + (0.5 + 2.0**-30)).astype(np.int64)
    return np.clip(zero + nearest, LOW, HIGH)
