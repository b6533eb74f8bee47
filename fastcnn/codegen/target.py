"""The target of compilation, and the register tiles that suit it.

A vector of 16 float32 takes one AVX-512 register, two of AVX2 or four of 128 bits; a tile whose
accumulators exceed the registers runs at half the speed. Measured: docs/engine.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from fastcnn.codegen.processor import is_aarch64, processor

#: Prefixes of LLVM's processor names, for targets given by name without features.
_NAMES = {
    "AVX-512": (
        *("x86-64-v4", "skylake-avx512", "cascadelake", "cooperlake", "cannonlake", "icelake"),
        *("tigerlake", "rocketlake", "sapphirerapids", "emeraldrapids", "graniterapids"),
        *("znver4", "znver5"),
    ),
    "AVX2": (
        *("x86-64-v3", "haswell", "broadwell", "skylake", "alderlake", "raptorlake"),
        *("meteorlake", "arrowlake", "lunarlake", "znver"),
    ),
}


@dataclass(frozen=True)
class Blocking:
    """Largest part of a tile that is computed at a time, as (rows, columns) of vectors."""

    #: Output channels by positions of a convolution; outputs by blocks of a linear layer.
    products: tuple[int, int]
    #: Output channels by positions, four per window, of a convolution with pooling.
    windows: tuple[int, int]
    #: Output channels by taps of a weight gradient.
    gradients: tuple[int, int]
    #: Rows by columns of the taps of a weight gradient through pooling.
    windowed: tuple[int, int]


_BLOCKINGS = {
    "AVX-512": Blocking((16, 16), (16, 16), (16, 16), (3, 7)),
    "AVX2": Blocking((2, 2), (1, 4), (2, 3), (1, 3)),
    "NEON": Blocking((2, 2), (1, 4), (2, 3), (1, 3)),
    "128 bits": Blocking((2, 1), (1, 4), (1, 2), (1, 2)),
}


def instruction_set() -> str:
    """The widest vector extension of the target: a key of the blockings."""
    triple, name, listed = processor()
    if is_aarch64(triple):  # all of them have NEON, listed or not
        return "NEON"
    features = set(listed.split(","))
    for kind, wanted in (("AVX-512", "+avx512f"), ("AVX2", "+avx2")):
        if wanted in features:
            return kind
    if not features - {""}:
        for kind, names in _NAMES.items():
            if name.startswith(names):
                return kind
    return "128 bits"


def blocking() -> Blocking:
    """The blocking of the target."""
    return _BLOCKINGS[instruction_set()]


def tile_heights(pooled: bool) -> tuple[int, ...]:
    """Possible output channels of a convolution's tile, the largest first.

    With eight or six channels each input is read less often than with four, but the sums need 24
    registers.
    """
    return (8, 6, 4, 2, 1) if instruction_set() == "AVX-512" and not pooled else (4, 2, 1)


def split(rows: int, columns: int, block: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """First row, first column, rows and columns of each part of a tile."""
    for row in range(0, rows, block[0]):
        for column in range(0, columns, block[1]):
            yield row, column, min(block[0], rows - row), min(block[1], columns - column)
