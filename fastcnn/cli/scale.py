"""``fastcnn scale``."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fastcnn.cli.train import ModelName


def scale(
    ranks: Annotated[int, typer.Option(min=1, help="Most processes to predict for.")] = 64,
    network: Annotated[
        str, typer.Option(help="1gbit, 10gbit, 25gbit, 100gbit or infiniband.")
    ] = "10gbit",
    latency: Annotated[
        float | None, typer.Option(help="Microseconds of a message, instead of the network's.")
    ] = None,
    bandwidth: Annotated[
        float | None, typer.Option(help="GB a second, instead of the network's.")
    ] = None,
    model: Annotated[ModelName, typer.Option(help="Network to train.")] = ModelName.report,
    batch_size: Annotated[
        int, typer.Option(min=17, help="Of all processes together; with --weak, of each.")
    ] = 64,
    weak: Annotated[
        bool, typer.Option(help="A batch for each process, instead of one for all.")
    ] = False,
    average_every: Annotated[int, typer.Option(min=1, help="As in fastcnn train.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each process.")] = 1,
) -> None:
    """Predict how training would scale over MPI, from steps that are measured here.

    The time of a step on one process is measured now; what the sum of gradients takes on the
    network is computed from latency and bandwidth (docs/scaling.md has the arithmetic).

    Examples:

      fastcnn scale --ranks 64 --network 10gbit

      fastcnn scale --model vgg_small --batch-size 256 --weak
    """
    from fastcnn.distributed.scaling import NETWORKS, Network, measure_step, predict
    from fastcnn.errors import ConfigurationError
    from fastcnn.models import MODELS

    if network not in NETWORKS:
        raise ConfigurationError(f"--network must be one of {', '.join(NETWORKS)}, got {network!r}")
    known = NETWORKS[network]
    link = Network(
        known.latency if latency is None else latency * 1e-6,
        known.bandwidth if bandwidth is None else bandwidth * 1e9,
    )
    trained = MODELS[model.value](seed=0)
    cost = measure_step(trained, batch_size, threads)
    console = Console(highlight=False)
    console.print(
        f"{model.value}: a step takes {1e6 * cost.fixed:.0f} us and {1e6 * cost.each:.2f} us a "
        f"sample on {threads} thread{'s' if threads > 1 else ''}; its gradient has "
        f"{cost.gradient_bytes / 1e6:.2f} MB; {network}: {1e6 * link.latency:.1f} us a message, "
        f"{link.bandwidth / 1e9:.2f} GB/s",
        soft_wrap=True,
    )
    kind = "each" if weak else "all"
    table = Table("ranks", "compute us", "sum us", "speed-up", "efficiency",
                  title=f"batch {batch_size} for {kind}")  # fmt: skip
    count = 1
    while count <= ranks:
        line = predict(cost, link, batch_size, count, weak, average_every)
        table.add_row(
            str(count), f"{1e6 * line.step:.0f}", f"{1e6 * line.communication:.0f}",
            f"{line.speedup:.2f}", f"{line.efficiency:.0%}",
        )  # fmt: skip
        count *= 2
    console.print(table)
