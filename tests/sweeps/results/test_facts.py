"""Facts: which numbers of a result a kind's table takes from it."""

from __future__ import annotations

from sweeps.language.kinds import Kind
from sweeps.results.facts import extra

RESULT = {"height": 0.5, "measured": {"Bricks": {"red": 0.25, "colour": "red"}}}


def test_further_numbers_may_lie_in_mappings() -> None:
    keys = ("height", "measured.Bricks.red", "measured.Bricks.colour", "measured.Tiles.red")
    kind = Kind("lab:Spec", "lab:run", extra=tuple((key, key) for key in keys))
    assert extra(kind, RESULT) == dict(zip(keys, (0.5, 0.25, None, None), strict=True))


def test_they_are_in_percent_where_scores_are() -> None:
    kind = Kind("lab:Spec", "lab:run", percent=True, extra=(("measured.Bricks.red", "red"),))
    assert extra(kind, RESULT) == {"measured.Bricks.red": 25.0}
