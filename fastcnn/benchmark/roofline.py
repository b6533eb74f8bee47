"""The figure of a profile: kernels under the machine's roofs, and where the time goes."""

from typing import Any

import numpy as np

from fastcnn.benchmark.profile import BUSY, PARTS, Profile, ProfiledRow
from fastcnn.training.figure import new_figure

#: Hues of the Okabe-Ito palette, which is safe for colour-blind readers.
COLOURS = dict(zip(PARTS, ("#0072B2", "#D55E00", "#009E73"), strict=True))
#: Maximum rows with a number and a bar.
NAMED = 14


def roofline_figure(profile: Profile) -> Any:
    """Left: each row's rate against its FLOPs per byte, under the measured roofs. Right: the most
    expensive rows, in the step and alone.

    The area of a point is the row's share of the step. Rows whose share of the peak is impossible,
    because other processes interfered, are left out, and the figure says so.
    """
    rows = [row for row in profile.rows if profile.of_peak(row) is not None]
    # Longest first; ties in program order.
    longest = sorted(rows, key=lambda row: -row.in_step)[:NAMED]
    figure = new_figure(12.0, 5.2)
    warning = f"\n{BUSY}" if profile.is_disturbed else ""
    figure.suptitle(
        f"{profile.model}, batch {profile.batch}, {profile.threads} "
        f"thread{'s' if profile.threads > 1 else ''}: {1e6 * profile.step:,.0f} us a step{warning}",
        fontsize=11,
    )
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _draw_roofs(left, profile)
    _draw_points(left, profile, rows, longest)
    _draw_bars(right, profile, longest)
    return figure


def _draw_roofs(axes: Any, profile: Profile) -> None:
    peaks = profile.peaks
    intensities = [row.intensity for row in profile.rows if row.flops]
    low, high = min(intensities) / 3, max(*intensities, 30.0) * 3
    axes.set_xlim(low, high)
    axes.axhline(peaks.flops / 1e9, color="black", linewidth=1.2)
    axes.annotate(
        f"multiply-add peak {peaks.flops / 1e9:.0f} GFLOP/s",
        (high, peaks.flops / 1e9),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        fontsize=8,
    )
    for level, bandwidth in peaks.bandwidth.items():
        ridge = peaks.flops / bandwidth
        x = np.array([low, min(ridge, high)])
        axes.plot(x, x * bandwidth / 1e9, color="0.55", linewidth=0.9)
        axes.annotate(
            f"{level} {bandwidth / 1e9:.0f} GB/s",
            (low, low * bandwidth / 1e9),
            xytext=(4, 11),
            textcoords="offset points",
            fontsize=7,
            color="0.35",
            rotation=28,
        )


def _draw_points(
    axes: Any, profile: Profile, shown: list[ProfiledRow], longest: list[ProfiledRow]
) -> None:
    slowest = min(row.rate for row in profile.rows if row.flops) / 1e9
    axes.set_ylim(max(slowest / 2, profile.peaks.flops / 1e9 / 3000), profile.peaks.flops / 4e8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for part in PARTS:
        rows = [row for row in shown if row.part == part and row.flops]
        axes.scatter(
            [row.intensity for row in rows],
            [row.rate / 1e9 for row in rows],
            s=[8 + 900 * row.in_step / profile.step for row in rows],
            color=COLOURS[part],
            alpha=0.7,
            edgecolor="white",
            linewidth=0.6,
            label=part,
        )
    for number, row in enumerate(longest, start=1):
        if row.flops:
            axes.annotate(
                str(number), (row.intensity, row.rate / 1e9), fontsize=8, ha="center", va="center"
            )
    axes.set_xlabel("FLOPs a byte that the row touches")
    axes.set_ylabel("GFLOP/s of the row alone")
    axes.grid(alpha=0.2, which="both", linewidth=0.5)
    handles = [axes.scatter([], [], s=40, color=COLOURS[part], label=part) for part in PARTS]
    axes.legend(handles=handles, frameon=False, fontsize=8, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_bars(axes: Any, profile: Profile, longest: list[ProfiledRow]) -> None:
    places = np.arange(len(longest))
    axes.barh(
        places - 0.2,
        [1e6 * row.in_step for row in longest],
        0.4,
        color=[COLOURS[row.part] for row in longest],
    )
    axes.barh(
        places + 0.2,
        [1e6 * row.seconds for row in longest],
        0.4,
        color=[COLOURS[row.part] for row in longest],
        alpha=0.4,
    )
    axes.set_yticks(
        places, [f"{row.name}  {n}" for n, row in enumerate(longest, start=1)], fontsize=8
    )
    axes.invert_yaxis()
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel("us: in the step (full colour), alone (pale)")
    shown = sum(row.in_step for row in longest) / profile.step
    axes.set_title(f"these rows: {100 * shown:.0f} % of the step", fontsize=9, loc="right")
    axes.grid(alpha=0.2, axis="x", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
