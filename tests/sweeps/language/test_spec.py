"""Specs are read strictly, and hashed by what they say."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.checks import InputError
from sweeps.language import spec as specs
from tests.sweeps.toys import ToySparse, ToySpec


@dataclass(frozen=True)
class Wide:
    """A field of every type that is understood."""

    number: float = 0.5
    count: int = 3
    flag: bool = False
    name: str = "a"
    choice: Literal["x", "y", 3] = "x"
    maybe: int | None = None
    either: int | str = 1
    pair: tuple[int, float] = (1, 2.0)
    many: tuple[str, ...] = ()
    items: list[float] = field(default_factory=list)
    table: dict[str, float] = field(default_factory=dict)
    anything: Any = None
    where: Path = Path("here")
    inner: ToySparse = field(default_factory=lambda: ToySparse(method="static", sparsity=0.5))
    optional: ToySparse | None = None
    seed: int = 0


@pytest.mark.parametrize(
    ("name", "given_value", "loaded"),
    [
        ("number", "1e-3", 1e-3),
        ("number", 1, 1.0),
        ("number", "inf", float("inf")),
        ("count", "1e5", 100_000),
        ("count", 7.0, 7),
        ("count", "12", 12),
        ("count", 2**70, 2**70),
        ("flag", True, True),
        ("choice", "y", "y"),
        ("choice", 3, 3),
        ("maybe", None, None),
        ("maybe", "5", 5),
        ("either", "text", "text"),
        ("either", 4, 4),
        ("pair", [3, "4"], (3, 4.0)),
        ("many", ["a", "b"], ("a", "b")),
        ("items", [1, "2"], [1.0, 2.0]),
        ("table", {"a": 1}, {"a": 1.0}),
        ("anything", [1, {"b": 2}], [1, {"b": 2}]),
        ("where", "there", Path("there")),
        ("inner", {"method": "set"}, ToySparse("set", 0.5)),
        ("inner", ToySparse("set"), ToySparse("set")),
        ("inner.method", "set", ToySparse("set", 0.5)),
        ("optional", None, None),
        ("optional", {"method": "set"}, ToySparse("set")),
        ("optional.method", "set", ToySparse("set")),
    ],
)
def test_values_are_coerced_by_annotation(name: str, given_value: Any, loaded: Any) -> None:
    value = getattr(specs.load(Wide, {name: given_value}), name.partition(".")[0])
    assert value == loaded
    assert type(value) is type(loaded)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"number": "much"}, "number='much': must be a number"),
        ({"number": True}, "number=True: must be a number"),
        ({"number": float("nan")}, "number=nan: must be a number"),
        ({"count": 1.5}, "count=1.5: must be an integer"),
        ({"count": False}, "count=False: must be an integer"),
        ({"count": "inf"}, "count='inf': must be an integer"),
        ({"flag": "yes"}, "flag='yes': must be true or false"),
        ({"flag": 1}, "flag=1: must be true or false"),
        ({"name": 3}, "name=3: must be text"),
        ({"choice": "z"}, "choice='z': must be one of x, y, 3"),
        ({"choice": True}, "choice=True: must be one of x, y, 3"),
        ({"maybe": "no"}, "maybe='no': must be an integer"),
        ({"either": 1.5}, "either=1.5: must be int or str"),
        ({"pair": [1]}, "pair=[1]: must be a list of 2"),
        ({"many": "ab"}, "many='ab': must be a list"),
        ({"many": ["a", 1]}, "many[1]=1: must be text"),
        ({"table": [1]}, "table=[1]: must be a mapping"),
        ({"table": {"a": "b"}}, "table.a='b': must be a number"),
        ({"inner": "set"}, "inner='set': must be a mapping of fields"),
        ({"inner.method": "st"}, "inner.method='st': must be one of dense, static, set"),
        ({"inner": {"sparsity": 1}}, "inner.sparsity=1.0: must be a number in [0, 1)"),
        ({"inner": {"methd": "set"}}, "inner.methd: unknown key; did you mean 'method'?"),
        ({"numbr": 1}, "numbr: unknown key; did you mean 'number'?"),
        ({"count": 1, 5: 1}, "5: a key must be text (quote it)"),
        ({"inner": {"method": "set"}, "inner.method": "set"}, "inner.method: given twice"),
        ({"inner": None, "inner.method": "set"}, "inner.method: given twice, whole and in part"),
    ],
)
def test_wrong_values_are_named_in_one_line(values: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        specs.load(Wide, values)
    assert str(error.value) == message


def test_an_unknown_key_without_a_neighbour_lists_what_is_allowed() -> None:
    with pytest.raises(InputError, match=r"^zzz: unknown key; allowed: extra, fate, note, points"):
        specs.load(ToySpec, {"zzz": 1})


def test_a_field_without_default_must_be_given() -> None:
    @dataclass(frozen=True)
    class Needs:
        size: int
        seed: int = 0

    with pytest.raises(InputError, match=r"^size: missing, it has no default$"):
        specs.load(Needs, {})
    assert specs.load(Needs, {"size": 3}).size == 3


toy_specs = st.builds(
    ToySpec,
    task=st.text(max_size=5),
    seconds=st.floats(0, allow_nan=False),
    points=st.integers(),
    rate=st.floats(0, exclude_min=True, allow_nan=False),
    sizes=st.lists(st.integers(), max_size=3).map(tuple),
    note=st.none() | st.text(max_size=5),
    extra=st.dictionaries(
        st.sampled_from(["a", "b"]), st.integers() | st.text(max_size=3) | st.booleans()
    ),
    sparse=st.builds(
        ToySparse,
        method=st.sampled_from(["dense", "static", "set"]),
        sparsity=st.floats(0, 1, exclude_max=True),
        distribution=st.sampled_from(["erk", "uniform"]),
    ),
    seed=st.integers(0, 10),
)


@given(toy_specs)
def test_a_spec_survives_json(spec: ToySpec) -> None:
    text = json.dumps(specs.plain(spec), allow_nan=False)
    assert specs.load(ToySpec, json.loads(text)) == spec


@given(toy_specs)
def test_what_differs_from_defaults_is_all_there_is_to_know(spec: ToySpec) -> None:
    assert specs.load(ToySpec, specs.delta(spec)) == spec


@given(toy_specs)
def test_dotted_and_nested_keys_say_the_same(spec: ToySpec) -> None:
    flat = specs.flatten(specs.plain(spec))
    assert specs.load(ToySpec, flat) == spec
    assert specs.nest(flat) == specs.plain(spec)


@given(toy_specs, st.randoms(use_true_random=False))
def test_the_order_of_keys_plays_no_part_in_the_identity(spec: ToySpec, random: Any) -> None:
    items = list(specs.flatten(specs.plain(spec)).items())
    random.shuffle(items)
    shuffled = specs.load(ToySpec, dict(items))
    assert specs.run_id("toy", shuffled) == specs.run_id("toy", spec)


@given(toy_specs, toy_specs)
def test_two_specs_share_an_identity_if_and_only_if_they_are_canonically_equal(
    one: ToySpec, other: ToySpec
) -> None:
    alike = json.dumps(specs.plain(one.canonical())) == json.dumps(specs.plain(other.canonical()))
    assert (specs.run_id("toy", one) == specs.run_id("toy", other)) == alike


def test_kind_and_seed_are_part_of_the_identity() -> None:
    spec = ToySpec()
    names = {
        specs.run_id("toy", spec),
        specs.run_id("other", spec),
        specs.run_id("toy", dataclasses.replace(spec, seed=1)),
    }
    assert len(names) == 3
    assert all(len(name) == 12 and set(name) <= set("0123456789abcdef") for name in names)


def test_identities_stay_what_they_are() -> None:
    cases = [
        (ToySpec(), '{"kind":"toy","seed":0,"spec":{}}'),
        (
            ToySpec(rate=0.5, sparse=ToySparse("set", 0.9), seed=2),
            '{"kind":"toy","seed":2,"spec":'
            '{"rate":0.5,"seed":2,"sparse":{"method":"set","sparsity":0.9}}}',
        ),
    ]
    for spec, text in cases:
        assert specs.run_id("toy", spec) == hashlib.sha256(text.encode()).hexdigest()[:12]


@given(toy_specs)
def test_a_new_field_with_a_default_leaves_identities_alone(spec: ToySpec) -> None:
    @dataclass(frozen=True)
    class Later(ToySpec):
        colour: str = "red"

    later = specs.load(Later, specs.plain(spec))
    assert specs.run_id("toy", later) == specs.run_id("toy", spec)
    painted = dataclasses.replace(later, colour="blue")
    assert specs.run_id("toy", painted) != specs.run_id("toy", spec)


def test_a_changed_default_leaves_identities_alone() -> None:
    @dataclass(frozen=True)
    class Changed(ToySpec):
        sparse: ToySparse = field(default_factory=lambda: ToySparse("static", 0.9))
        FIRST_DEFAULTS: ClassVar = {"sparse": ToySpec().sparse}

    for sparse in (ToySpec().sparse, ToySparse("static", 0.9), ToySparse("set", 0.5)):
        then, now = ToySpec(sparse=sparse), Changed(sparse=sparse)
        assert specs.run_id("toy", now) == specs.run_id("toy", then)
    assert specs.run_id("toy", Changed()) != specs.run_id("toy", ToySpec())


def test_dense_runs_are_alike_whatever_their_distribution() -> None:
    uniform = ToySpec(sparse=ToySparse("dense", 0.9, "uniform"))
    assert specs.run_id("toy", uniform) == specs.run_id("toy", ToySpec())


def test_single_fields_are_coerced_by_dotted_name() -> None:
    assert specs.coerce_field(ToySpec, "sparse.sparsity", "9e-1") == 0.9
    assert specs.coerce_field(ToySpec, "extra.anything", "x") == "x"
    with pytest.raises(InputError, match=r"^sparse\.sprsity: unknown key; did you mean 'sparsity'"):
        specs.coerce_field(ToySpec, "sparse.sprsity", 1)
    with pytest.raises(InputError, match=r"^rate\.x: unknown key; 'rate' has no fields"):
        specs.coerce_field(ToySpec, "rate.x", 1)


def test_defaults_are_found_by_dotted_name() -> None:
    assert specs.default(ToySpec, "sparse.distribution") == "erk"
    assert specs.default(ToySpec, "rate") == 1e-3
    assert specs.default(Wide, "inner.method") == "static"
    for nowhere in ("extra.a", "optional.method"):
        assert specs.default(Wide if "opt" in nowhere else ToySpec, nowhere) not in ("", None, 0)
