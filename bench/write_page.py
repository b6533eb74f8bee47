"""Write docs/benchmarks.md, docs/networks.md, figures and README's table from docs/benchmarks/.

``python -m bench.write_page`` draws what ``make bench-report`` measured; it
measures nothing itself.
"""

from pathlib import Path

from bench.networks.page import render_networks
from bench.page import read_results, render_page
from bench.readme_tables import with_tables
from bench.scaling_figure import scaling_figure
from fastcnn.benchmark.figures import write_figures
from fastcnn.benchmark.roofline import roofline_figure
from fastcnn.training.figure import save_figure

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "benchmarks"
PAGE, README = ROOT / "docs" / "benchmarks.md", ROOT / "README.md"
NETWORKS = ROOT / "docs" / "networks.md"


def main() -> None:
    """Write page, figures and README."""
    report, scaling, profiles = read_results(RESULTS)
    write_figures(report, RESULTS)
    save_figure(scaling_figure(scaling), RESULTS / "scaling.png")
    for profile in profiles:
        save_figure(roofline_figure(profile), RESULTS / f"profile-{profile.model}.png")
    PAGE.write_text(render_page(RESULTS), encoding="utf-8")
    NETWORKS.write_text(render_networks(RESULTS), encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    README.write_text(with_tables(readme, RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()
