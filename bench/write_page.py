"""Writes the pages of benchmarks, networks and C files, their figures, and README's table.

``python -m bench.write_page`` uses the results of ``make bench-report``; it measures nothing
itself.
"""

from pathlib import Path

from bench.callers import render_callers
from bench.ladder_page import read_ladder, shown
from bench.markdown import fill
from bench.networks.page import render_networks
from bench.page import read_results, render_pages
from bench.readme_tables import readme_tables
from bench.scaling_figure import scaling_figure
from bench.tiny.page import render_tiny
from fastcnn.benchmark.figures import ladder_figure, write_figures
from fastcnn.benchmark.roofline import roofline_figure
from fastcnn.training.figure import save_figure

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RESULTS = DOCS / "benchmarks"


def main() -> None:
    """Write pages, figures and README."""
    report, scaling, profiles = read_results(RESULTS)
    # The ladder's page has separate measurements.
    drawn = [result for result in report.results if result.suite != "ladder"]
    write_figures(drawn, RESULTS)
    save_figure(scaling_figure(scaling), RESULTS / "scaling.png")
    save_figure(ladder_figure(shown(read_ladder(RESULTS))), RESULTS / "ladder.png")
    for profile in profiles:
        save_figure(roofline_figure(profile), RESULTS / f"profile-{profile.model}.png")
    for name, text in render_pages(RESULTS).items():
        (DOCS / name).write_text(text, encoding="utf-8")
    (DOCS / "networks.md").write_text(render_networks(RESULTS), encoding="utf-8")
    fill(DOCS / "interchange.md", tiny=render_tiny(RESULTS))
    fill(DOCS / "inference.md", callers=render_callers(RESULTS))
    fill(ROOT / "README.md", **readme_tables(RESULTS))


if __name__ == "__main__":
    main()
