"""``fastcnn compare-backends``."""

from typing import Annotated, Any

import typer
from rich.table import Table

from fastcnn.cli.arguments import ModelName, Network
from fastcnn.cli.screen import Screen, number_columns


def compare_backends(
    model: Network = ModelName.report_cnn,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples in the batch.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and samples.")] = 0,
    seeds: Annotated[
        int,
        typer.Option(
            min=0, help="Compare whole networks of this many seeds with float64, instead of layers."
        ),
    ] = 0,
) -> None:
    """Compare every layer on every backend: differences, and time per sample.

    With --seeds: compare whole networks in float32 with float64, and print the largest differences
    of logits and gradients. Where a value lies within rounding error of a ReLU's kink or of a max
    pooling tie, float32 may take the other branch: these places are counted, with the change in the
    gradient if all of them do.

    Examples:

      fastcnn compare-backends

      fastcnn compare-backends --model lenet5 --seeds 10
    """
    import numpy as np

    from fastcnn.analysis import compare as comparing
    from fastcnn.analysis.rounding import compare_rounding, rounding_table
    from fastcnn.backends import BACKENDS
    from fastcnn.models import MODELS

    def network_and_data(number: int) -> tuple[Any, Any, Any]:
        network = MODELS[model.value](seed=number)
        assert network.input_shape is not None
        generator = np.random.default_rng(number)
        x = generator.standard_normal((batch_size, *network.input_shape))
        classes = network.output_shape(network.input_shape)[0]
        return network, x, generator.integers(0, classes, batch_size)

    console = Screen()
    if seeds:
        numbers = range(seed, seed + seeds)
        print(rounding_table({n: compare_rounding(*network_and_data(n)) for n in numbers}))
        return
    comparison = comparing.compare_backends(*network_and_data(seed))
    measured = number_columns("forward µs", "backward µs", "largest difference", "relative")
    table = Table("layer", "backend", *measured)
    for row in comparison.rows:
        table.add_row(*row.cells)
    console.show(table)
    for name in BACKENDS:
        console.say(
            f"{name}: {1e6 * comparison.seconds(name):,.1f} µs per sample, "
            f"{comparison.speedup(name):,.0f} times the reference"
        )
    console.say(
        "Each layer was called by itself. This slows lanes most, which rearranges images before "
        "and after each call. fastcnn bench times whole training steps."
    )
