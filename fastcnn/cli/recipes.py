"""``fastcnn recipes``."""

from typing import Annotated

import typer

from fastcnn.cli.screen import Screen


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Show this recipe as TOML.", show_default=False),
    ] = None,
) -> None:
    """List the named recipes, with the accuracy and the training time of each.

    Accuracies are means over several seeds on the test data, in percent, with their standard
    deviation; seconds are of one run, without compilation and tests. docs/records.md has the
    machine, other libraries' figures and published results.

    Examples:

      fastcnn recipes

      fastcnn recipes mnist-99

      fastcnn train --recipe mnist-99 --epochs 3
    """
    from fastcnn.recipes import get, names, records
    from fastcnn.text_table import text_table

    if name is not None:
        typer.echo(get(name).text(), nl=False)
        return
    measured = {record.recipe: record for record in records() if record.contestant == "fastcnn"}
    rows = []
    for each in names():
        recipe, record = get(each), measured.get(each)
        found = ("not measured", "", "")
        if record is not None:
            spread = f" ({record.spread:.2f})" if len(record.accuracies) > 1 else ""
            found = (
                f"{record.accuracy:.2f}{spread}",
                f"{record.time:.3g}" if record.seconds else "",
                str(len(record.accuracies)),
            )
        rows.append((each, recipe.data_name, *found))
    console = Screen()
    header = ("recipe", "data", "accuracy %", "seconds", "seeds")
    console.print(text_table(header, rows), soft_wrap=True)
    console.say("fastcnn train --recipe NAME runs one, fastcnn recipes NAME shows it")
