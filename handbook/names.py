"""Everything that a configuration can name: what `dst list` prints."""

from __future__ import annotations

from handbook.tables import code, escaped, table
from sweeps.commands.listing import LISTINGS, described

TITLES = {"envs": "Environments and wrappers", "growth": "Growth rules", "drop": "Drop rules"}


def page() -> str:
    """Return a page with a table for each listing."""
    parts = [
        "# Names\n\nWhat methods, rules, presets, data sets and so on are called in grids, on the "
        "command line and in Python. `dst list WHAT` prints the same. Wherever a name can stand, "
        "`package.module:NAME` of your own can too ([your own code](../own_code.md))."
    ]
    for what in LISTINGS:
        rows = [(code(it.name), escaped(it.summary), code(it.source)) for it in described(what)]
        title = TITLES.get(what, what.capitalize())
        body = table(("name", "what it is", "where it is"), rows)
        parts.append(f"## {title} {{ #{what} }}\n\n    dst list {what}\n\n{body}")
    return "\n\n".join(parts) + "\n"
