"""Names of structures: three words and two kinds of patterns.

- `unstructured`, `constant_fan_in` and `neurons` are the words.
- `2:4` is N:M, of M consecutive weights N.
- `16x1` is RxC, blocks of so many rows and columns.
"""

from __future__ import annotations

import re

from sparse_core.checks import InputError

FAMILIES = ("unstructured", "constant_fan_in", "neurons", "N:M", "RxC")
FAMILY_BY_SIGN = {":": "N:M", "x": "RxC"}
"""The families that are patterns, by the sign in them."""
EXAMPLES = {"N:M": "N:M, such as '2:4'", "RxC": "RxC, such as '4x4'"}


def parse_pattern(structure: str) -> tuple[str, int, int] | None:
    """Read `"2:4"` as `(":", 2, 4)` and `"4x4"` as `("x", 4, 4)`; None if it is neither."""
    match = re.fullmatch(r"([1-9]\d*)([:x])([1-9]\d*)", structure)
    return (match[2], int(match[1]), int(match[3])) if match else None


def family_of(structure: object) -> str:
    """Return the family of a structure.

    Raises:
        InputError: If it is none.
    """
    if isinstance(structure, str):
        pattern = parse_pattern(structure)
        if pattern is not None:
            return FAMILY_BY_SIGN[pattern[0]]
        if structure in FAMILIES and structure not in EXAMPLES:
            return structure
    raise InputError(
        f"structure={structure!r}: must be one of {with_examples(FAMILIES, ', ')}",
        field="structure",
    )


def with_examples(families: tuple[str, ...], joint: str = " or ") -> str:
    """Return families with an example of each pattern."""
    return joint.join(EXAMPLES.get(family, family) for family in families)
