"""From nested Python loops to the engine: one backward pass, made faster rung by rung."""

import ast
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastcnn import functional as F
from fastcnn.benchmark.layer_cases import BATCH, Arrays, LayerCase, LayerRun, relative_difference
from fastcnn.benchmark.layer_runs import lanes_run
from fastcnn.benchmark.peaks import measured_flops
from fastcnn.benchmark.results import Result, not_timed, result_of, short
from fastcnn.execution.workers import workers
from fastcnn.text_table import text_table
from fastcnn.timing import measure, repeated

#: The second convolution of the report's network.
SHAPE, WEIGHT, PADDING = (4, 14, 14), (8, 4, 3, 3), 1
#: Samples given to the nested loops in Python, whose time is reported per sample.
FEW = 2
#: Largest difference from the backend ``reference``, relative to the largest gradient.
TOLERANCE = 1e-4
#: Types of parameters and results, for which a slide has no room.
ANNOTATION = re.compile(
    r"(?<=\w): (?:np\.ndarray|int|bool|Any|list\[Any\])| -> [\w\[\]]+(?=:$)", re.M
)


@dataclass(frozen=True)
class Rung:
    """One implementation of the gradients.

    Attributes
    ----------
    change : str
        What differs from the rung before, in a sentence.
    code : tuple of str
        Functions whose source is shown, as ``module:function`` or ``module:function.inner``.
    function : str
        The function to run, in :mod:`fastcnn.benchmark.ladder_rungs`; empty for the engine.
    """

    name: str
    change: str
    code: tuple[str, ...]
    function: str = ""

    def run(self, case: LayerCase, arrays: Arrays, threads: int = 1) -> LayerRun:
        """The rung on given arrays, ready to be timed."""
        if not self.function:
            return lanes_run(case, arrays, True, threads)
        # It imports numba.
        from fastcnn.benchmark import ladder_rungs

        function = getattr(ladder_rungs, self.function)
        call = partial(function, arrays.grad, arrays.x, arrays.parameters["weight"], PADDING)
        return LayerRun(repeated(call, lambda: workers(threads)), call)

    def source(self) -> str:
        """The code, without type annotations."""
        parts = []
        for place in self.code:
            module, _, names = place.partition(":")
            name, _, inner = names.partition(".")
            function = pkgutil.resolve_name(f"{module}:{name}")
            plain = getattr(function, "py_func", function)
            text = inspect.getsource(plain)
            if plain.__name__ != name:  # the rung before, compiled
                text = f"{name} = njit({plain.__name__})"
            if inner:
                found = next(
                    node
                    for node in ast.walk(ast.parse(text))
                    if isinstance(node, ast.FunctionDef) and node.name == inner
                )
                text = "\n".join(text.splitlines()[found.lineno - 1 : found.end_lineno])
            parts.append(ANNOTATION.sub("", textwrap.dedent(text)).rstrip())
        return "\n\n\n".join(parts)


_HERE = "fastcnn.benchmark.ladder_rungs:"
RUNGS = (
    Rung(
        "loops in Python",
        "Each product of the forward pass sends its gradient to its two factors, one number at a "
        "time: the interpreter takes hundreds of times as long as the arithmetic.",
        (f"{_HERE}loops",),
        "loops",
    ),
    Rung(
        "loops with numba",
        "The same lines as machine code. Each sum still waits for the one before, one number in a "
        "register of sixteen.",
        (f"{_HERE}jitted_loops",),
        "jitted_loops",
    ),
    Rung(
        "im2col in numpy",
        "Windows are copied into columns, so that a matrix product does the sums with full "
        "registers. The columns are nine times the image and go through memory.",
        (f"{_HERE}im2col_in_numpy",),
        "im2col_in_numpy",
    ),
    Rung(
        "im2col with numba",
        "Columns of a few samples at a time, which stay in the cache, copied by compiled loops.",
        (f"{_HERE}im2col_with_numba", f"{_HERE}move"),
        "im2col_with_numba",
    ),
    Rung(
        "the engine",
        "No columns: sixteen samples lie side by side in each register, so that every window is "
        "read in place, and sums stay in registers.",
        ("fastcnn.backends.lanes:TilePart.added",),
    ),
)


def ladder_case() -> LayerCase:
    """The convolution whose gradients all rungs compute."""
    pairs = ((PADDING, PADDING), (PADDING, PADDING))
    arguments = {"stride": (1, 1), "padding": pairs, "dilation": (1, 1), "groups": 1}
    return LayerCase("conv2d", SHAPE, WEIGHT, arguments)


def bench_ladder(
    *, threads: Sequence[int] = (1,), rounds: int = 7, seconds: float = 0.05
) -> list[Result]:
    """Time all rungs on one thread, after comparing each with the backend ``reference``.

    Parameters
    ----------
    threads : sequence of int
        The engine is also measured with each of these.
    seconds : float
        Minimum duration of one measurement.

    Returns
    -------
    list of Result
        In microseconds per sample, in the order of :data:`RUNGS`; ``ratio`` is the speed-up over
        the nested loops, ``share`` the fraction of the multiply-add rate measured in the same
        process on as many threads, ``note`` the change. A rung that differs from the reference is
        not timed.
    """
    from threadpoolctl import threadpool_limits

    case = ladder_case()
    arrays = case.arrays()
    few = arrays.first(FEW)
    expected = F.conv2d_backward(
        few.grad, few.x, few.parameters["weight"], padding=PADDING, backend="reference"
    )
    counts = tuple(sorted({1, *threads}))
    runs: dict[tuple[Rung, int], LayerRun] = {}
    apart: dict[tuple[Rung, int], float] = {}
    with threadpool_limits(1, "blas"):
        for rung in RUNGS:
            if rung.function:
                small = rung.run(case, few)
                apart[rung, 1] = relative_difference(small.results(), expected)
                runs[rung, 1] = small if rung is RUNGS[0] else rung.run(case, arrays)
        # The engine's program is for a whole batch, so it is compared with im2col's gradients.
        exact = runs[RUNGS[-2], 1].results()[:2]
        for count in counts:
            runs[RUNGS[-1], count] = run = RUNGS[-1].run(case, arrays, count)
            apart[RUNGS[-1], count] = relative_difference(run.results(), exact)
        timed = {key: run.repeat for key, run in runs.items() if apart[key] <= TOLERANCE}
        slow = {key: run for key, run in timed.items() if key[0] is RUNGS[0]}
        timings = measure(slow, rounds=1, seconds=1e-9, pause=0.0)
        fast = {key: run for key, run in timed.items() if key not in slow}
        timings |= measure(fast, rounds=rounds, seconds=seconds)
    peak = measured_flops(counts)
    flops = 2 * case.flops(arrays.y.size) / BATCH
    names = {"suite": "ladder", "work": f"{case.work}, backward", "unit": "us/sample"}
    results: list[Result] = []
    loops = timings.get((RUNGS[0], 1))
    for (rung, count), difference in apart.items():
        rest: dict[str, Any] = names | {"contestant": rung.name, "threads": count, "batch": BATCH}
        timing = timings.get((rung, count))
        if timing is None:
            results.append(not_timed(f"not timed: differs by {difference:.1e}", **rest))
            continue
        samples = FEW if rung is RUNGS[0] else BATCH
        spent = timing.median / samples
        results.append(
            result_of(
                timing,
                1e6 / samples,
                ratio=loops.median / FEW / spent if loops else None,
                difference=difference,
                rate=flops / spent,
                share=flops / spent / peak[count],
                note=rung.change,
                **rest,
            )
        )
    return results


def named(row: Result) -> str:
    """The rung, with its number of threads if there are several."""
    return row.contestant + (f", {row.threads} threads" if row.threads > 1 else "")


def percent(share: float) -> str:
    """A share as a whole percentage, or with one significant digit: 0.00042 is 0.04%."""
    return f"{share:.0%}" if share >= 0.095 else f"{100 * share:.1g}%"


def ladder_table(results: Sequence[Result], *, show: bool = False) -> str:
    """The ladder as text: times, then what changed from rung to rung.

    Parameters
    ----------
    show : bool
        Include the code of each rung.
    """
    rows, said = [], []
    before: Result | None = None
    for row in results:
        number = [rung.name for rung in RUNGS].index(row.contestant) + 1
        name = f"{number}  {named(row)}"
        if not row.rounds:
            rows.append((name, "", "", "", ""))
            said.append(f"{number}  {row.contestant}: {row.note}")
            continue
        step = "" if before is None else f"{before.median / row.median:.3g} x"
        total = "" if row.ratio is None else f"{row.ratio:,.0f} x"
        rows.append((name, short(row.median), step, total, percent(row.share or 0.0)))
        if row.threads == 1:
            said.append(f"{number}  {row.contestant}: {row.note}")
            if show:
                code = RUNGS[number - 1].source()
                said.append("\n" + textwrap.indent(code, "    ") + "\n")
        before = row
    header = ("rung", "us/sample", "faster", "than loops", "of peak")
    title = f"{results[0].work}, batch {results[0].batch}, one thread"
    notes = [
        line if line.startswith("\n") else textwrap.fill(line, 79, subsequent_indent="   ")
        for line in said
    ]
    return "\n".join([title, text_table(header, rows, left=1), "", *notes])
