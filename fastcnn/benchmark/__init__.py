"""Benchmarks: the machine's peaks, single layers, whole steps, and other libraries for comparison.

The room of ``fastcnn bench`` and ``fastcnn profile``.
"""

from typing import TYPE_CHECKING

from fastcnn import door

if TYPE_CHECKING:
    from fastcnn.benchmark.figures import ladder_figure as ladder_figure
    from fastcnn.benchmark.ladder import RUNGS as RUNGS
    from fastcnn.benchmark.ladder import Rung as Rung
    from fastcnn.benchmark.ladder import bench_ladder as bench_ladder
    from fastcnn.benchmark.ladder import ladder_table as ladder_table
    from fastcnn.benchmark.peaks import Peaks as Peaks
    from fastcnn.benchmark.peaks import measure_peaks as measure_peaks
    from fastcnn.benchmark.records import Records as Records
    from fastcnn.benchmark.results import Result as Result
else:
    __getattr__, __dir__, __all__ = door(
        __name__,
        {
            "figures": ("ladder_figure",),
            "ladder": ("RUNGS", "Rung", "bench_ladder", "ladder_table"),
            "peaks": ("Peaks", "measure_peaks"),
            "records": ("Records",),
            "results": ("Result",),
        },
    )
