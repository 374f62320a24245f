"""Pages of the API: every public name of every module, a page for each room of a package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from handbook.tables import code, escaped, table
from sparse_core.command import PACKAGES
from sweeps.language.kinds import KINDS

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = ("sweeps/bench",)
"""Rooms of programs, which have no names for others."""


def pages() -> Iterator[tuple[str, str]]:
    """Yield path and Markdown of the index and of a page for each room."""
    yield "reference/index.md", index()
    for room in rooms():
        yield f"reference/code/{dotted(room)}.md", room_page(room)


def rooms() -> list[Path]:
    """Return the folders of our packages that hold modules."""
    found = [
        path.parent for name in PACKAGES for path in sorted((ROOT / name).rglob("__init__.py"))
    ]
    return [room for room in found if room.relative_to(ROOT).as_posix() not in LEFT_OUT]


def dotted(path: Path) -> str:
    """Return the dotted name of a module or package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def index() -> str:
    """Return the page that lists what packages export, each name with its home."""
    kinds = ", ".join(f"[`{name}`](kind-{name}.md)" for name in KINDS)
    parts = [
        "# Look up",
        f"- [Commands](commands.md), and the keys of grids: {kinds}\n"
        "- [Names](names.md) of methods, rules, presets, data sets; [papers](../methods.md) and "
        "where ours differ from them\n"
        "- [Examples](examples.md), whole\n"
        "- The code, below: what each package exports; then every public name, room by room",
    ]
    for package in PACKAGES:
        homes = exported(ROOT / package / "__init__.py")
        if not homes:
            continue
        rows = [
            (f"[`{name}`][{home}.{name}]", escaped(summary(home, name)))
            for name, home in sorted(homes.items(), key=lambda item: item[0].lower())
        ]
        parts.append(f"## {package}\n\n{table(('name', 'what it is'), rows)}")
    return "\n\n".join(parts) + "\n"


def exported(init: Path) -> dict[str, str]:
    """Return the names in a package's `__all__`, each with the module that defines it."""
    tree = ast.parse(init.read_text(encoding="utf-8"))
    wanted: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["__all__"]:
            wanted = ast.literal_eval(node.value)
    homes = imported(init)
    return {name: home(homes[name], name) for name in wanted if name in homes}


def imported(file: Path) -> dict[str, str]:
    """Return the names that a file imports from our packages, each with the module it names."""
    return {
        alias.asname or alias.name: node.module
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PACKAGES
        for alias in node.names
        if node.module
    }


def home(module: str, name: str) -> str:
    """Return the module that defines a name which another one may only pass on."""
    file = source(module)
    return home(imported(file)[name], name) if name in imported(file) else module


def source(module: str) -> Path:
    """Return a module's file, of a package its `__init__.py`."""
    place = ROOT.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def summary(module: str, name: str) -> str:
    """Return the first line of the docstring of a function or class."""
    for node in ast.parse(source(module).read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def room_page(room: Path) -> str:
    """Return a page with all modules of a room."""
    modules = [path for path in sorted(room.glob("*.py")) if path.stem != "__init__"]
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))) or ""
    head = f"# {code(dotted(room))}\n\n{text}"
    return "\n\n".join([head, *(f"::: {dotted(module)}" for module in modules)]) + "\n"
