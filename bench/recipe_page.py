"""Generates docs/records.md from the records of recipes."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path

from bench.markdown import table
from fastcnn.recipes import Record, get, names

ROOT = Path(__file__).parents[1]
PAGE, README = ROOT / "docs" / "records.md", ROOT / "README.md"
#: Recipes for README, of which the first three with measurements are shown.
SHOWN = (
    "mnist-99", "cifar10-94-muon", "simplechains-lenet", "mnist-99.6", "fashion-92.5",
    "pytorch-mnist", "keras-mnist", "cifar10-94",
)  # fmt: skip
HEAD = """# Records: accuracy and time of each recipe

A recipe is a complete description of a training run, from data to accuracy: a TOML file in
`fastcnn/recipes`. `fastcnn recipes` lists the recipes, `fastcnn train --recipe NAME` runs one, and
`fastcnn.recipes.get("NAME")` returns it.

Accuracies are means over seeds on the test data, in percent, with their standard deviation in
parentheses. Seconds are for a whole run on data in memory, from drawing the initial weights
to the last step. They include checks, augmentation and averages of weights, but not compilation,
which is done before. Tests are timed separately.

PyTorch trains with the same initial weights, order of samples, augmentation, learning rates,
parameter groups and losses, in channels_last. Before it is timed, its gradients of the first step
are compared with fastcnn's (to nine digits in float64, or to ten times the change that rounding of
the samples makes); a PyTorch training that differs is not timed. Its batches are augmented by
fastcnn's kernels; without augmentation, its images are normalised in advance.

## How the recipes were chosen

`mnist-99`, `mnist-99.6` and `fashion-92.5` are this project's own. Their networks, learning rates,
epochs and augmentation were chosen by training on the first 50,000 training images and comparing
on the last 10,000, with one to four seeds; the final number of epochs is slightly larger than in
these comparisons. The test images were used only after a recipe was fixed. The five views of a
test image over which `mnist-99.6` averages were chosen in the same way: over six seeds they
classify 99.61 % of the 10,000 correctly, and one view 99.57 %. `cifar10-90` is a smaller
`cifar10-94-muon`, and was not tuned. `fashion-94` is `cifar10-90` for Fashion-MNIST, with its first
settings: trained on 50,000 images, they classified 94.49 % of the other 10,000 correctly. The other
recipes follow published ones, with the published settings.

Some sources have CIFAR-10 as JPEG files, on which accuracies are lower than on the lossless files:
compare these only with PyTorch's in the same table.

## Measured
"""


def page(records: Sequence[Record]) -> str:
    """The page's text."""
    lines = [HEAD]
    measured = {record.recipe for record in records}
    for name in [*names(), *sorted(measured - set(names()))]:
        lines += section(name, [record for record in records if record.recipe == name])
    return "\n".join(lines).rstrip() + "\n"


def readme_records(records: Sequence[Record]) -> str:
    """README's table of three of the records."""
    own = {record.recipe: record for record in records if record.contestant == "fastcnn"}
    twins = {record.recipe: record for record in records if record.contestant != "fastcnn"}
    shown = [name for name in SHOWN if name in own][:3]
    if not shown:
        return "See [docs/records.md](docs/records.md) for accuracies and times of whole runs."
    rows = []
    for name in shown:
        record, twin, published = own[name], twins.get(name), get(name).published
        known = ""
        if "seconds" in published:
            known = (
                f"{published['accuracy']:.2f} % in {_seconds(published['seconds'])} s "
                f"({published['machine']})"
            )
        others = _reached(twin) if twin else ""
        rows.append((f"`{name}`{_of(record)}", _reached(record), others, known))
    header = ("`fastcnn train --recipe`", "fastcnn", "PyTorch, same recipe", "published")
    counts = [str(len(own[name].accuracies)) for name in shown]
    seeds = " and ".join(filter(None, [", ".join(counts[:-1]), counts[-1]]))
    return (
        f"{table(header, rows, left=4)}\n\n"
        f"Means over {seeds} seeds; {own[shown[0]].machine}. All recipes, seeds and "
        "sources: [docs/records.md](docs/records.md)."
    )


def section(name: str, records: Sequence[Record]) -> list[str]:
    """A recipe's heading, table and commands."""
    recipe = get(name.partition(",")[0])
    lines = [f"### {name}", "", recipe.about, ""]
    rows = [
        (
            f"{record.contestant}{_of(record)}",
            f"{record.accuracy:.2f}{_spread(record)}",
            _seconds(record.time),
            _seeds(record),
            _seconds(record.evaluation_seconds) if record.seconds else "",
            f"{record.machine}, {record.threads} thread{'s' if record.threads > 1 else ''}",
        )
        for record in records
    ]
    if found := recipe.published:
        seconds = _seconds(found["seconds"]) if "seconds" in found else ""
        accuracy = f"{found['accuracy']:.2f}"
        rows.append((found["where"], accuracy, seconds, "", "", found.get("machine", "")))
    if not records:
        lines += ["Not measured.", ""]
    if rows:
        header = ("trained by", "accuracy %", "seconds", "seeds", "test, s", "machine")
        lines += [table(header, rows, left=6), ""]
    for record in records:
        # A command with --note already contains it.
        note = "" if record.note in record.command else f" ({record.note})"
        lines += [f"`{record.command}`, {record.date}{note}", ""]
    return lines


def _of(record: Record) -> str:
    return f", {record.data}" if record.data else ""


def _spread(record: Record) -> str:
    return f" ({record.spread:.2f})" if len(record.accuracies) > 1 else ""


def _reached(record: Record) -> str:
    seconds = f" in {_seconds(record.time)} s" if record.seconds else ""
    return f"{record.accuracy:.2f} %{seconds}"


def _seeds(record: Record) -> str:
    timed, seeds = len(record.seconds), len(record.accuracies)
    return f"{seeds}" if timed == seeds else f"{seeds}, {timed} timed"


def _seconds(value: float) -> str:
    if isnan(value):
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
