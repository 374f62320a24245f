"""The page of commands: every word and option that `dst` takes, from the parsers themselves."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from handbook.tables import code, escaped, table
from sweeps.commands.parser import make
from sweeps.language.kinds import KINDS


def page() -> str:
    """Return the page."""
    parts = ["# Commands", "What `dst` can do. Each command says the same with `--help`."]
    for parser in leaves(make()):
        parts.append(f"## {parser.prog}")
        if parser.description:
            parts.append(escaped(sentence(parser.description)))
        kind = parser.prog.removeprefix("dst train ")
        if kind in KINDS:
            parts.append(f"Its options are the keys of [kind `{kind}`](kind-{kind}.md).")
            continue
        rows = [(code(usage(action)), text(action)) for action in shown(parser)]
        parts.append(table(("option", "what it says"), rows) if rows else "Options: `--help`.")
    return "\n\n".join(parts) + "\n"


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of commands that have no commands of their own."""
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for action in inner:
        helps = {choice.dest: choice.help for choice in action._choices_actions}
        for name, child in action.choices.items():
            child.description = child.description or helps.get(name)
            yield from leaves(child)
    if not inner:
        yield parser


def shown(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the arguments of a command, without `--help`."""
    return [
        action
        for action in parser._actions
        if action.dest != "help" and action.help is not argparse.SUPPRESS
    ]


def usage(action: argparse.Action) -> str:
    """Return an argument as it is typed."""
    value = "" if action.nargs == 0 else str(action.metavar or "|".join(action.choices or ()))
    return " ".join(
        filter(None, (", ".join(action.option_strings), value or action.dest * (action.nargs != 0)))
    )


def text(action: argparse.Action) -> str:
    """Return what is said about an argument, its default put in."""
    return escaped((action.help or "").replace("%(default)s", str(action.default)))


def sentence(text: str) -> str:
    """Return a help text as a sentence.

    >>> sentence("say where it stands"), sentence("Play.")
    ('Say where it stands.', 'Play.')
    """
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."
