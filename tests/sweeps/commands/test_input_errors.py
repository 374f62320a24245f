"""Wrong input is a type with the name of the field, which nobody reads out of its text."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dstrl.settings import Settings
from sparse_core.checks import InputError, at_least, one_of, positive, within
from sparse_core.config import SparseConfig
from sweeps.language import spec as specs
from sweeps.language.kinds import KINDS, spec_type

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("sparse_core", "envs", "dstrl", "continual", "supervised", "sweeps")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: one_of("way", "up", ["down", "left"]), "way='up': must be one of down, left"),
        (lambda: within("part", 2, 0, 1), "part=2: must be a number in [0, 1]"),
        (
            lambda: within("part", 1, 0, 1, open_right=True),
            "part=1: must be a number in [0, 1)",
        ),
        (lambda: at_least("count", True, 1), "count=True: must be an integer of at least 1"),
        (lambda: positive("rate", 0), "rate=0: must be a positive number"),
        (lambda: SparseConfig(method="dance"), "method='dance': must be one of dense, static, "),
        (
            lambda: SparseConfig(layer_sparsity=(("input", 1.5),)),
            "layer_sparsity['input']=1.5: must be a number in [0, 1)",
        ),
        (lambda: Settings.read({"actor_sparsity": 7}), "actor_sparsity=7: must be a number"),
        (lambda: Settings.read({"actor_sparsity": 0.5, "drop": 7}), "drop=7: must be one of"),
        (
            lambda: Settings.read({"critic_layer_sparsity": [("input", 7)]}),
            "critic_layer_sparsity['input']=7: must be a number",
        ),
        (
            lambda: specs.load(spec_type(KINDS["rl"].spec), {"sparse": {"update_every": 0}}),
            "sparse.update_every=0: must be an integer of at least 1",
        ),
        (
            lambda: specs.load(spec_type(KINDS["cl"].spec), {"sparse.layer_sparsity": [["x", 7]]}),
            "sparse.layer_sparsity['x']=7.0: must be a number",
        ),
        (
            lambda: specs.load(spec_type(KINDS["crl"].spec), {"sparse.sparsty": 0}),
            "sparse.sparsty: unknown key; did you mean 'sparsity' or '",
        ),
    ],
)
def test_an_error_of_a_field_has_its_name(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value).startswith(message)
    assert caught.value.field == re.split("=|: ", message)[0]


def test_a_part_of_a_field_concerns_the_field() -> None:
    for name in ("layer_sparsity", "layer_sparsity['input']", "layer_sparsity.input"):
        error = InputError(f"{name}=7: no", field=name)
        assert error.concerns(["layer_sparsity"]) and not error.concerns(["layer", "input"])
    assert not InputError("layer_sparsity=7: no").concerns(["layer_sparsity"])


def test_an_error_can_be_told_from_above() -> None:
    error = InputError("method='x': no", field="method").below("grid.sparse")
    assert (str(error), error.field) == ("grid.sparse.method='x': no", "grid.sparse.method")
    assert InputError("no").below("grid").field is None


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield every place where wrong input is raised."""
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError":
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_wherever_a_text_begins_with_a_field_the_error_says_so_too() -> None:
    silent = []
    for where, call in calls():
        text, *others = call.args
        first = text.values[0] if isinstance(text, ast.JoinedStr) else text
        begins = isinstance(first, ast.Constant) and re.match(r"[a-z_][\w.]*=", str(first.value))
        named = others or any(keyword.arg == "field" for keyword in call.keywords)
        if begins and not named:
            silent.append(where)
    assert silent == []
