"""``fastcnn compare-backends``."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fastcnn.cli.model_name import ModelName


def compare(
    model: Annotated[ModelName, typer.Option(help="Network to run.")] = ModelName.report,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Differences and times of every layer on every backend, for one sample of a batch."""
    import numpy as np

    from fastcnn.analysis.compare import compare_backends
    from fastcnn.backends import BACKENDS
    from fastcnn.models import MODELS

    network = MODELS[model.value](seed=seed)
    assert network.input_shape is not None
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((batch_size, *network.input_shape))
    y = generator.integers(0, network.output_shape(network.input_shape)[0], batch_size)
    comparison = compare_backends(network, x, y)
    table = Table("layer", "backend", "forward us", "backward us", "largest difference", "relative")
    for row in comparison.rows:
        table.add_row(
            row.layer, row.backend, f"{1e6 * row.forward:,.2f}", f"{1e6 * row.backward:,.2f}",
            f"{row.absolute:.1e}", f"{row.relative:.1e}",
        )  # fmt: skip
    console = Console(highlight=False)
    console.print(table)
    for name in BACKENDS:
        console.print(
            f"{name}: {1e6 * comparison.seconds(name):,.1f} us a sample, "
            f"{comparison.speedup(name):,.0f} times the reference"
        )
