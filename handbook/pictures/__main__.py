"""`python -m handbook.pictures [NAME ...]`: draw pictures into `docs/pictures`; default: all."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from handbook.pictures import accuracy, curve, mask, report, update

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"
PICTURES: dict[str, Callable[[Path], None]] = {
    "update": update.draw,
    "mask": mask.draw,
    "accuracy": accuracy.draw,
    "curve": curve.draw,
    "report": report.shoot,
}


def main() -> None:
    """Draw the pictures that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m handbook.pictures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PICTURES)}")
    names = parser.parse_args().names or list(PICTURES)
    if unknown := sorted(set(names) - set(PICTURES)):
        parser.error(f"{unknown[0]!r}: must be one of {', '.join(PICTURES)}")
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        PICTURES[name](FOLDER)
        print(f"{name}: drawn", flush=True)


if __name__ == "__main__":
    main()
