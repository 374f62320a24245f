"""What there is to name: listed with a line and a source each, and named in every help text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib import resources

import pytest

from sparse_core.checks import InputError
from sparse_core.imports import is_reference, load
from sweeps import cli
from sweeps.commands.helptext import spelt_out, tables_spelt_out
from sweeps.commands.listing import LISTINGS, core_time, described
from sweeps.language.grid import packaged
from sweeps.language.kinds import KINDS

COLOURS = ("red", "blue")
SIZES = {"small": 1, "large": 2}
LIMIT = 3
NAME = "name"


@dataclass
class Inner:
    """Inside.

    Attributes:
        size: One of `SIZES`.
    """

    size: str = "small"


@dataclass
class Outer:
    """Outside.

    Attributes:
        colour: One of `COLOURS`, `tests.sweeps.commands.test_listing.SIZES`
            `and` no other.
        inner: What is inside.
    """

    colour: str = "red"
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize("what", LISTINGS)
def test_every_name_has_one_line_and_a_source(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = described(what)
    assert entries and len({(entry.name, entry.source) for entry in entries}) == len(entries)
    assert all(entry.summary and entry.source for entry in entries)
    assert cli.main(["list", what]) == 0
    lines = capsys.readouterr().out.splitlines()
    for entry, line in zip(entries, lines, strict=True):
        said = rf"{re.escape(entry.name)} +{re.escape(entry.summary)} +{re.escape(entry.source)}"
        assert re.fullmatch(said, line.rstrip())


@pytest.mark.parametrize("what", LISTINGS)
def test_sources_can_be_found(what: str) -> None:
    for entry in described(what):
        if is_reference(entry.source):
            load("source", entry.source, "what is listed")
        elif entry.source != "gymnasium":
            package, _, rest = entry.source.partition("/")
            assert resources.files(package).joinpath(rest).is_file()


def test_grids_say_in_their_first_line_what_they_are() -> None:
    entries = described("grids")
    assert [entry.name for entry in entries] == packaged()
    said = r"[^?]{,100}[?.]( [\d.]+ (min|h))?"
    assert all(re.fullmatch(said, entry.summary) for entry in entries)
    assert [entry.name for entry in described("kinds")] == list(KINDS)


@pytest.mark.parametrize(
    ("minutes", "text"),
    [(0.5, "0.5 min"), (7, "7 min"), (44.4, "44 min"), (90, "1.5 h"), (617, "10 h")],
)
def test_the_time_of_a_grid_is_as_rough_as_it_is_known(minutes: float, text: str) -> None:
    assert core_time(minutes) == text


def test_there_are_no_other_listings() -> None:
    with pytest.raises(InputError, match=r"^list='all': must be one of methods, growth, "):
        described("all")


@pytest.mark.parametrize(
    ("kind", "listings"),
    [
        ("rl", ["methods", "growth", "drop", "distributions", "presets"]),
        ("cl", ["methods", "growth", "drop", "distributions", "strategies"]),
        ("crl", ["methods", "growth", "drop", "distributions"]),
    ],
)
def test_help_names_the_values_it_takes(
    kind: str, listings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", kind, "--help"])
    text = " ".join(re.sub("[\u2500-\u257f]", "", capsys.readouterr().out).split())
    for listing in listings:
        entries = [e for e in described(listing) if not e.source.startswith("supervised")]
        assert [e.name for e in entries if f"`{e.name}`" not in text] == []
    assert not re.findall(r"`[A-Z][A-Z_]{3,}`", text.replace("`DST_DATA`", ""))


def test_tables_are_spelt_out_while_help_is_made() -> None:
    before = Outer.__doc__, Inner.__doc__
    with tables_spelt_out(Outer):
        assert Outer.__doc__ == (
            "Outside.\n\nAttributes:\n    colour: One of `red`, `blue`, `small`, `large` `and` no "
            "other.\n    inner: What is inside."
        )
        assert "size: One of `small`, `large`." in str(Inner.__doc__)
    assert (Outer.__doc__, Inner.__doc__) == before


@pytest.mark.parametrize("text", ["`LIMIT`", "`NAME`", "`NOTHING`", "COLOURS", "`colours`"])
def test_what_is_no_table_stays(text: str) -> None:
    assert spelt_out(text, __name__) == text
