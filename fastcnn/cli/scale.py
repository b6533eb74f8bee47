"""``fastcnn scale``."""

from typing import Annotated

import typer
from rich.table import Table

from fastcnn.cli.arguments import ModelName, Network
from fastcnn.cli.lines import one_voice
from fastcnn.cli.screen import Screen, number_columns


def scale(
    ranks: Annotated[
        int, typer.Option(min=1, help="Largest number of processes to predict for.")
    ] = 64,
    network: Annotated[
        str | None,
        typer.Option(
            help="1gbit, 10gbit, 25gbit, 100gbit or infiniband. By default 10gbit; under mpiexec, "
            "as measured between its processes."
        ),
    ] = None,
    latency: Annotated[
        float | None, typer.Option(help="Microseconds per message, instead of the network's.")
    ] = None,
    bandwidth: Annotated[
        float | None, typer.Option(help="GB per second, instead of the network's.")
    ] = None,
    model: Network = ModelName.report_cnn,
    batch_size: Annotated[
        int,
        typer.Option(
            min=17, help="Samples per step of all processes together; with --weak, of each."
        ),
    ] = 64,
    weak: Annotated[
        bool, typer.Option("--weak", help="Weak scaling: a batch per process, not one for all.")
    ] = False,
    average_every: Annotated[int, typer.Option(min=1, help="As in fastcnn train.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads of each process; by default 1, and under mpiexec its share of cores.",
        ),
    ] = None,
) -> None:
    """Predict how training would scale over MPI, from steps measured on this machine.

    The time of a step on one process is measured; the time to sum the gradients is computed from
    the network's latency and bandwidth (see docs/scaling.md). Under mpiexec both are measured on
    all processes, and joint steps are compared with the prediction.

    Examples:

      fastcnn scale --ranks 64 --network 10gbit

      fastcnn scale --model vgg_small --batch-size 256 --weak

      mpiexec -n 4 python -m mpi4py -m fastcnn scale
    """
    from fastcnn.arguments import as_number
    from fastcnn.distributed import join
    from fastcnn.distributed.scaling import (
        NETWORKS,
        Network,
        measure_network,
        measure_step,
        measure_together,
        predict_scaling,
    )
    from fastcnn.errors import ConfigurationError
    from fastcnn.models import MODELS

    world = join()
    with one_voice(world), world.guard():
        with world.preparing():
            if network is not None and network not in NETWORKS:
                known = ", ".join(NETWORKS)
                raise ConfigurationError(f"--network must be one of {known}, got {network!r}")
            for option, value in (("--latency", latency), ("--bandwidth", bandwidth)):
                if value is not None:
                    as_number("scale", option, value, above=0.0)
        trained = MODELS[model.value](seed=0)
        share = world.threads()  # all processes together
        count = threads or share or 1
        cost = measure_step(trained, batch_size, count)
        total = batch_size * (world.size if weak else 1)
        name, link, made = network or "10gbit", NETWORKS[network or "10gbit"], None
        if world.size > 1:
            found, seconds = measure_network(world, cost.gradient_bytes)
            steps = measure_together(trained, world, total, count, every=average_every)
            made = steps, seconds
            if network is None:
                name, link = f"{world.size} processes here", found
        if not world.is_root:
            return
    link = Network(
        link.latency if latency is None else latency * 1e-6,
        link.bandwidth if bandwidth is None else bandwidth * 1e9,
    )
    console = Screen()
    console.say(
        f"{model.value}: a step takes {1e6 * cost.fixed:.0f} us plus {1e6 * cost.each:.2f} us per "
        f"sample on {count} thread{'s' if count > 1 else ''}, {1e6 * cost.alone:.0f} us for "
        f"{batch_size} on one process alone; its gradient has "
        f"{cost.gradient_bytes / 1e6:.2f} MB; {name}: {1e6 * link.latency:.1f} us per message, "
        f"{link.bandwidth / 1e9:.2f} GB/s"
    )
    kind = "each" if weak else "all"
    table = Table(
        *number_columns("ranks", "compute us", "sum us", "speed-up", "efficiency"),
        title=f"batch {batch_size} for {kind}",
    )
    count = 1
    while count <= ranks:
        line = predict_scaling(cost, link, batch_size, count, weak, average_every)
        times = (f"{1e6 * seconds:.0f}" for seconds in (line.step, line.communication))
        table.add_row(str(count), *times, f"{line.speedup:.2f}", f"{line.efficiency:.0%}")
        count *= 2
    console.show(table)
    if made is not None:
        step, seconds = made
        here = predict_scaling(cost, found, batch_size, world.size, weak, average_every)
        expected = here.step + here.communication
        gained = cost.alone / step * (world.size if weak else 1)
        console.say(
            f"measured on {world.size} processes: a step takes {1e6 * step:.0f} us (predicted "
            f"{1e6 * expected:.0f}), a sum of gradients {1e6 * seconds:.0f}; speed-up {gained:.2f} "
            f"(predicted {here.speedup:.2f})"
        )
