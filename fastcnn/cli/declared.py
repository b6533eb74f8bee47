"""Command-line options from the declarations of the training options."""

import inspect
import shlex
import typing
from collections.abc import Callable, Collection
from dataclasses import fields
from types import NoneType
from typing import Annotated, Any

import typer

from fastcnn.training.declarations import declarations, plain_type

KEYWORD = inspect.Parameter.KEYWORD_ONLY
#: The help panel of each part's options; each panel is as wide as its own names need.
PANELS = dict.fromkeys(("loss", "optimizer", "schedule"), "Loss, optimiser and learning rate")
#: Options with long names get their own panel, which leaves room for the text of the rest.
PANELS |= dict.fromkeys(
    ("average_every", "ordered_reduction", "sync_batch_norm"), "Several MPI processes"
)


def with_options(
    options: type, without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace the ``**options`` of a command by the options that a class declares.

    Typer reads them from the command's signature, where they precede the command's own. Options in
    ``without`` are omitted.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        context, *own, _ = signature.parameters.values()
        command.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[
                context.replace(kind=KEYWORD),
                *(each for each in parameters(options) if each.name not in without),
                *own,
            ]
        )
        return command

    return decorate


def parameters(options: type) -> list[inspect.Parameter]:
    """The options of a class as typer parameters: its own before those it inherits."""
    hints, declared = typing.get_type_hints(options), declarations(options)
    own = inspect.get_annotations(options)
    names = sorted(declared, key=lambda name: name not in own)
    defaults = {each.name: each.default for each in fields(options)}
    made = []
    for name in names:
        kind, declaration, default = plain_type(hints[name]), declared[name], defaults[name]
        text = declaration.help
        if declaration.choices and not all(word in text for word in declaration.choices):
            text = f"{text.removesuffix('.')}: {', '.join(declaration.choices)}."
        annotation = kind | None if NoneType in typing.get_args(hints[name]) else kind
        words = f"--{name.replace('_', '-')}"
        if kind is bool and default:  # on by default, so there is an option to switch it off
            words += words.replace("--", "/--no-")
        panel = PANELS.get(declaration.part, "Model" if name in own else "Training")
        panel = PANELS.get(name, panel)
        parsing: dict[str, Any] = {}
        if kind in (int, float) and (declaration.choices or default is None):
            parsing = {"parser": _number_or_word(kind), "metavar": f"<{kind.__name__}>"}
        option = typer.Option(words, help=text, rich_help_panel=panel, **parsing)
        annotation = Annotated[annotation, option]
        made.append(inspect.Parameter(name, KEYWORD, default=default, annotation=annotation))
    return made


def _number_or_word(kind: type) -> Callable[[str], Any]:
    """Parse a number; words are returned as they are and checked with the other options."""

    # Older versions of typer need a function's name.
    def parse(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            return text

    return parse


def as_words(options: Any) -> str:
    """The options that differ from their defaults, as command-line arguments."""
    words = []
    defaults = {each.name: each.default for each in fields(options)}
    for name, value in options.changes().items():
        on, off = f"--{name.replace('_', '-')}", f"--no-{name.replace('_', '-')}"
        if not isinstance(value, bool):
            words += [on, shlex.quote(str(value))]
        elif value or defaults[name]:
            words.append(on if value else off)
    return " ".join(words)
