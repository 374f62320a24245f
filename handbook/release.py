"""Wheel and source distribution for an index: README's links lead to the repository.

    make dist REPOSITORY=https://github.com/NAME/dstrl

An index shows README alone, where relative links lead nowhere. The sources keep them relative, so
that they work in a checkout and in a fork; a copy of the sources gets the address and is built.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

from sparse_core.checks import InputError

ROOT = Path(__file__).resolve().parents[1]

ADDRESS = re.compile(r"https://[^\s/]+(/[\w.~-]+)+")
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?:|mailto:|#)(?P<path>[^)\s]+)\)")
CODE = re.compile(r"`[^`]*`")
PRODUCTS = {"runs", "data", "site", "build", "dist"}


def main() -> None:
    """Build both distributions into `dist`."""
    parser = argparse.ArgumentParser(prog="python -m handbook.release")
    parser.add_argument("repository", help="address of the repository, https://...")
    try:
        build(parser.parse_args().repository, ROOT / "dist")
    except InputError as error:
        sys.exit(str(error))


def build(repository: str, place: Path) -> None:
    """Build wheel and source distribution of this checkout into a folder.

    Args:
        repository: The address of the repository, as GitHub and GitLab write it. The tag of the
            version, `v0.1.0`, is taken to exist there.
        place: The folder.

    Raises:
        InputError: If the address is not one of https.
    """
    repository = repository.rstrip("/")
    if not ADDRESS.fullmatch(repository):
        raise InputError(
            f"REPOSITORY: {repository!r} is no address such as https://github.com/NAME/dstrl"
        )
    with TemporaryDirectory(prefix="dstrl-release-") as folder:
        copy = Path(folder) / "dstrl"
        shutil.copytree(ROOT, copy, ignore=left_out, symlinks=True)
        address(copy, repository)
        subprocess.run([sys.executable, "-m", "build", "--outdir", str(place), copy], check=True)


def left_out(folder: str, names: list[str]) -> set[str]:
    """Return what a copy of the project goes without: hidden files and folders, and products."""
    if Path(folder) != ROOT:
        return {name for name in names if name == "__pycache__"}
    return {name for name in names if name in PRODUCTS or name.startswith(".")}


def address(project: Path, repository: str) -> None:
    """Write the repository's address into README and `pyproject.toml` of a copy."""
    settings, readme = project / "pyproject.toml", project / "README.md"
    text = settings.read_text(encoding="utf-8")
    version = tomllib.loads(text)["project"]["version"]
    urls = f'[project.urls]\nRepository = "{repository}"\nIssues = "{repository}/issues"\n'
    urls += f'Changelog = "{repository}/blob/v{version}/CHANGELOG.md"\n'
    settings.write_text(f"{text}\n{urls}", encoding="utf-8")
    linked = absolute(readme.read_text(encoding="utf-8"), repository, f"v{version}")
    readme.write_text(linked, encoding="utf-8")


def absolute(text: str, repository: str, tag: str) -> str:
    """Return a page of Markdown whose relative links and pictures lead to a tag of a repository.

    Code, fenced, indented or between backticks, stays as it is.
    """
    lines, fenced = [], False
    for line in text.splitlines(keepends=True):
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        code = fenced or fence or line.startswith("    ")
        lines.append(line if code else _led(line, repository, tag))
    return "".join(lines)


def _led(line: str, repository: str, tag: str) -> str:
    code = [match.span() for match in CODE.finditer(line)]

    def lead(match: re.Match[str]) -> str:
        if any(begin < match.start() < end for begin, end in code):
            return match[0]
        kind = "raw" if match["picture"] else "blob"
        return f"{match['picture']}[{match['text']}]({repository}/{kind}/{tag}/{match['path']})"

    return LINK.sub(lead, line)


if __name__ == "__main__":
    main()
