"""From nested Python loops to the engine: one backward pass, made faster rung by rung."""

import ast
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from fastcnn import functional as F
from fastcnn.benchmark.contest import Compared, compete, timed_on_few
from fastcnn.benchmark.layer_cases import (
    BATCH,
    Arrays,
    LayerCase,
    LayerRun,
    convolution,
    relative_difference,
)
from fastcnn.benchmark.layer_runs import lanes_run
from fastcnn.benchmark.results import Result, short
from fastcnn.execution.workers import workers
from fastcnn.text_table import text_table
from fastcnn.timing import repeated

#: The second convolution of the report's network.
SHAPE, OUTPUTS, PADDING = (4, 14, 14), 8, 1
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

    case = convolution(SHAPE, OUTPUTS, 3, PADDING)
    arrays = case.arrays()
    few = arrays.first(FEW)
    expected = F.conv2d_backward(
        few.grad, few.x, few.parameters["weight"], padding=PADDING, backend="reference"
    )
    # The engine's program is for a whole batch, so it is compared with im2col's gradients.
    exact = RUNGS[-2].run(case, arrays).results()[:2]

    def loops() -> Compared:
        made, timing = timed_on_few(RUNGS[0].run(case, few).results, FEW, BATCH)
        difference = relative_difference(made, expected)
        return Compared(difference, timing=timing).within(TOLERANCE)

    def compared(rung: Rung) -> Compared:
        difference = relative_difference(rung.run(case, few).results(), expected)
        return Compared(difference, rung.run(case, arrays).repeat).within(TOLERANCE)

    def engine(count: int) -> Compared:
        run = RUNGS[-1].run(case, arrays, count)
        difference = relative_difference(run.results(), exact)
        return Compared(difference, run.repeat).within(TOLERANCE)

    with threadpool_limits(1, "blas"):
        results = compete(
            [
                (RUNGS[0].name, 1, loops),
                *((rung.name, 1, partial(compared, rung)) for rung in RUNGS[1:-1]),
                *((RUNGS[-1].name, n, partial(engine, n)) for n in sorted({1, *threads})),
            ],
            bases=(RUNGS[0].name,),
            scale=1e6 / BATCH,
            flops=2 * case.flops(arrays.y.size),
            rounds=rounds,
            seconds=seconds,
            suite="ladder",
            work=f"{case.work}, backward",
            batch=BATCH,
            unit="us/sample",
        )
    changes = {rung.name: rung.change for rung in RUNGS}
    return [replace(row, note=row.note or changes[row.contestant]) for row in results]


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
