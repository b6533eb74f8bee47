"""A program's description: sizes, FLOPs and bytes of its rows."""

import tracemalloc

import pytest

import fastcnn
from fastcnn import AvgPool2d, Conv2d, Flatten, Linear, MaxPool2d, Sequential, Sigmoid
from fastcnn.backends.lanes import conv_algorithm
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost
from fastcnn.backends.lanes.planning.buffers import LANES
from fastcnn.errors import ConfigurationError, ShapeError

VECTOR = 64


def costs(program: "fastcnn.backends.lanes.lowering.program.Program") -> dict[str, Cost]:
    return dict(zip(program.names, program.costs(), strict=True))


@pytest.mark.parametrize("batch", [1, 16, 50])
def test_products_are_those_of_the_layers(batch: int) -> None:
    """A convolution's and a linear layer's FLOPs, forward and for each gradient.

    Winograd's convolutions have tests of their own.
    """
    layers = {
        "conv": Conv2d(3, 8, (2, 4), stride=2), "flat": Flatten(), "linear": Linear(96, 10),
    }  # fmt: skip
    model = Sequential({"first": Conv2d(1, 3, 1), **layers}, input_shape=(1, 9, 8))
    found = costs(fastcnn.plan(model, batch, threads=1))
    # The row of a convolution's weight gradient also sums the bias gradient.
    for name, flops, sums in (("conv", 2 * 8 * 24 * 12, 8 * 12), ("linear", 2 * 96 * 10, 0)):
        forward = found[f"{name}: {'convolution' if name == 'conv' else name}"]
        assert forward.flops == batch * flops
        assert found[f"{name}: weight gradient"].flops == batch * (flops + sums)
    assert found["linear: input gradient"].flops == batch * 2 * 96 * 10


def test_bytes_of_convolutions() -> None:
    """Each pixel counts once, including padding; those skipped by strides do not count."""
    padded = Sequential({"c": Conv2d(2, 8, 3, padding=1)}, input_shape=(2, 6, 5))
    cost = costs(fastcnn.plan(padded, 32, training=False, threads=1))["c: convolution"]
    blocks = 2
    assert cost.read == blocks * VECTOR * 2 * 8 * 7 + 4 * 8 * 2 * 9
    assert cost.written == blocks * VECTOR * 8 * 6 * 5
    strided = Sequential({"c": Conv2d(4, 4, 1, stride=2, groups=2)}, input_shape=(4, 7, 7))
    cost = costs(fastcnn.plan(strided, 16, training=False, threads=1))["c: convolution"]
    assert cost.read == VECTOR * 4 * 16 + 4 * 4 * 2
    assert cost.flops == 2 * 16 * 4 * 16 * 2


def test_bytes_of_pooling_and_elements() -> None:
    model = Sequential(
        {"s": Sigmoid(), "m": MaxPool2d(3, stride=2), "a": AvgPool2d(2, padding=1)},
        input_shape=(3, 9, 9),
    )
    found = costs(fastcnn.plan(model, 16, training=False, threads=1))
    assert found["s: sigmoid"] == Cost(16 * 243, VECTOR * 243, VECTOR * 243)
    assert found["m: max pooling"] == Cost(16 * 48 * 8, VECTOR * 243, VECTOR * 48)
    assert found["a: average pooling"] == Cost(16 * 27 * 4, VECTOR * 48, VECTOR * 27)
    whole = Sequential(*model, Flatten(), Linear(27, 2), input_shape=(3, 9, 9))
    # Outputs and, for each, the index of its maximum.
    found = costs(fastcnn.plan(whole, 16, threads=1))
    assert found["1: max pooling"] == Cost(16 * 48 * 8, VECTOR * 243, VECTOR * 2 * 48)


def test_no_row_packs_weights_of_phases_without_any() -> None:
    """Most pixels of a strided convolution's input have no gradient."""
    model = Sequential(
        Conv2d(1, 2, 1), Conv2d(2, 4, 1, stride=2), Flatten(), Linear(36, 2), input_shape=(1, 5, 5)
    )
    with conv_algorithm("direct"):
        program = fastcnn.plan(model, 16, threads=1)
    assert program.names.count("1: pack weights") == 2


def test_description() -> None:
    model = Sequential(
        {"c": Conv2d(1, 4, 3), "f": Flatten(), "fc": Linear(64, 10)}, input_shape=(1, 6, 6)
    )
    program = fastcnn.plan(model, 64, threads=1)
    lines = program.describe().splitlines()
    assert lines[0].startswith("batch 64: 4 blocks of 16 samples, 1 thread, ")
    assert max(map(len, lines)) <= 80
    assert "c            direct                   direct" in lines
    assert [line[1:] for line in lines if line[:1] == " " != line[1:2]] == program.names
    line = lines[lines.index(" fc: linear") + 1]
    assert "64 to 10" in line
    assert line.endswith(" 81.9 k")  # 2 * 64 * 10 * 64
    assert lines[-1].endswith(" 403 k")
    assert sum(cost.flops for cost in program.costs()) == 402_680
    assert program.bytes > 4 * program.arena_size


def test_costs_of_many_taps_take_little_memory() -> None:
    """Less than one element per product of a convolution, of which there are ten million."""
    layers = Conv2d(3, 32, 1), Conv2d(32, 24, 5, padding=2), Flatten(), Linear(24 * 112 * 112, 2)
    with conv_algorithm("direct"):
        # Two threads share the only block, so nothing runs in strips.
        program = fastcnn.plan(Sequential(*layers, input_shape=(3, 112, 112)), 16, threads=2)
    with_taps = {name: cost for name, cost in costs(program).items() if name.startswith("1: ")}
    assert with_taps["1: convolution"].read == VECTOR * 32 * 116 * 116 + 4 * 24 * 32 * 25
    tracemalloc.start()
    try:
        program.costs()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8e6


def test_small_linear_layers_wait_for_no_other_thread() -> None:
    phases = {
        (hidden, threads): len(
            fastcnn.plan(
                Sequential({"a": Linear(64, hidden), "b": Linear(hidden, 3)}, input_shape=(64,)),
                64, threads=threads,
            ).phases
        )
        for hidden, threads in ((16, 1), (16, 2), (16, 3), (16, 4), (2048, 2))
    }  # fmt: skip
    # A pass over the blocks and one over the gradients; otherwise one for each layer and direction.
    assert phases[16, 1] == phases[16, 2] == phases[16, 4] == 2
    assert phases[16, 3] > 4
    assert 2 < phases[2048, 2] < phases[16, 3]


def test_bad_plans() -> None:
    model = fastcnn.models.report_cnn(seed=0)
    with pytest.raises(
        ConfigurationError, match="plan: batch_size must be a positive integer, got 0"
    ):
        fastcnn.plan(model, 0)
    with pytest.raises(
        ConfigurationError, match="threads must be a positive integer of at most 1,024, got 0"
    ):
        fastcnn.plan(model, threads=0)
    with pytest.raises(ShapeError, match="input shape is not known"):
        fastcnn.plan(Sequential(Conv2d(1, 4, 3)))
    assert fastcnn.plan(Sequential(Conv2d(1, 4, 3)), input_shape=(1, 5, 5)).batch == 64


@pytest.mark.parametrize(
    ("channels", "side", "row"), [(256, 32, 33), (32, 32, 33), (16, 32, 32), (64, 16, 16)]
)
def test_channels_of_a_pixel_fit_the_sets_of_a_cache(channels: int, side: int, row: int) -> None:
    """Maps of a power of two of pixels have one more column if they have many channels."""
    layers = Conv2d(3, channels, 1), Conv2d(channels, 8, 1), fastcnn.GlobalAvgPool2d(), Flatten()
    model = Sequential(*layers, Linear(8, 2), input_shape=(3, side, side))
    program = fastcnn.plan(model, 16, threads=2)
    first = program.rows[program.names.index("0: convolution")]
    assert first[L.Y_CHANNEL] == side * row * LANES
