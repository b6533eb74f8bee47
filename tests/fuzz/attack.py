"""Attack readers with mutated files: ``python -m tests.fuzz.attack SEED COUNT NAME...``.

Prints a line of JSON for each failure, and one with the counts of each reader. The process has 2 GB
of address space; an input that needs more than 10 seconds of CPU time ends it.
"""

import faulthandler
import json
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.errors import FastcnnError
from tests.fuzz.mutations import mutate
from tests.fuzz.registry import Reader, all_readers

ADDRESS_SPACE = 2 * 2**30
SECONDS = 10


def attack(
    reader: Reader, seed: int, count: int, report: Callable[[dict[str, Any]], None]
) -> dict[str, int]:
    """Read the samples and ``count`` mutated files; report every error that is not fastcnn's own.

    Returns
    -------
    dict
        Numbers of inputs ``read``, ``refused`` and ``failed``.
    """
    samples = [bytes(sample) for sample in reader.samples()]
    counts = {"read": 0, "refused": 0, "failed": 0}
    for index in range(-len(samples), count):
        # A generator for each input: a failure can be repeated without the inputs before it.
        generator = np.random.default_rng([seed, index + len(samples)])
        if index < 0:
            content = samples[index]
        else:
            chosen = samples[int(generator.integers(len(samples)))]
            content = mutate(chosen, samples, generator)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / reader.filename
            path.write_bytes(reader.wrap(content))
            _limit(SECONDS)
            try:
                reader.read(path)
                counts["read"] += 1
            except FastcnnError as error:
                counts["refused"] += 1
                if index < 0:
                    report({"input": index, "error": f"a good file is refused: {error}"})
                    counts["failed"] += 1
            except Exception as error:
                counts["failed"] += 1
                lines = traceback.format_exc(limit=-4)
                report({"input": index, "error": f"{type(error).__name__}: {error}", "at": lines})
            finally:
                _limit(0)
    return counts


def _limit(seconds: int) -> None:
    if hasattr(signal, "setitimer"):  # Windows has none
        signal.setitimer(signal.ITIMER_PROF, seconds)


def main() -> None:
    """Attack the readers named on the command line; slow readers get fewer inputs."""
    seed, most, *names = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        faulthandler.register(signal.SIGPROF, chain=True)  # says where, and ends the process
    except ImportError:  # Windows has no such limit
        pass
    warnings.simplefilter("error", RuntimeWarning)
    for name in names:
        reader = all_readers()[name]

        def report(found: dict[str, Any], name: str = name) -> None:
            print(json.dumps({"reader": name, **found}), flush=True)

        report(attack(reader, seed, max(5, most // reader.cost), report))


if __name__ == "__main__":
    main()
