"""Axes: what tells runs apart, and what plays no part in a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sweeps.language import spec as specs
from sweeps.language.axes import Axes
from sweeps.language.grid import Grid, parse

Toys = Callable[[str], Grid]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("kind: toy\nseeds: 2", ["toy", "toy"]),
        ("kind: toy\ngrid: {rate: [1, 2]}", ["rate=1", "rate=2"]),
        (
            "kind: toy\nbase: {sparse.sparsity: 0.9}\ngrid: {sparse.method: [dense, static, set]}",
            ["dense", "static", "set"],  # the sparsity differs, too, but says nothing more
        ),
        (
            "kind: toy\ngrid: {sparse.method: [dense, set], sparse.distribution: [erk, uniform]}",
            ["dense", "set erk", "set uniform"],  # a dense network has no distribution
        ),
        (
            "kind: toy\ngrid: {sparse.method: [dense, set], sparse.sparsity: [0.5, 0.9]}",
            ["dense", "set sparsity=0.5", "set sparsity=0.9"],
        ),
        (  # what is learnt is not part of the label
            "kind: toy\ngrid: {task: [tower, bridge], sparse.method: [dense, set]}",
            ["dense", "set", "dense", "set"],
        ),
        ("kind: toy\ngrid: {sizes: [[8], [16, 16]]}", ["sizes=[8]", "sizes=[16, 16]"]),
        ("kind: toy\ngrid: {extra: [{a: 1}, {a: 2}]}", ["a=1", "a=2"]),
        ("kind: toy\ngrid: {note: [null, x]}", ["note=None", "x"]),
        (  # no other method can have groups
            "kind: rl\ninclude: [{sparse.method: dense}, {sparse.method: srigl, sparse.group: 4}]",
            ["dense", "srigl"],
        ),
        (  # the one cannot be changed without the other; what a run lacks is not named
            "kind: rl\ninclude:\n"
            "  - {env_kwargs.sutton_barto_reward: true}\n"
            "  - {wrappers: [NoisyFeatures], wrapper_kwargs.NoisyFeatures.fraction: 0.5}\n"
            "  - {wrappers: [SensorDropout], wrapper_kwargs.SensorDropout.fraction: 0.5}\n",
            [
                "rl",
                "wrappers=['NoisyFeatures']",
                "wrappers=['SensorDropout']",
            ],
        ),
        (  # tasks that are not isolated share everything: what they may share says nothing
            "kind: crl\nbase: {sparse.method: set}\n"
            "include: [{share: none}, {share: reuse}, {isolation: none}, {sparse.method: dense}]",
            ["set hard share=none", "set hard reuse", "set isolation=none", "dense"],
        ),
    ],
)
def test_labels_say_what_tells_runs_apart(toys: Toys, text: str, labels: list[str]) -> None:
    runs = toys(text).runs
    axes = Axes(runs)
    assert [axes.label(run) for run in runs] == labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (
            "kind: cl\nbase: {sparse.method: rigl}\ngrid: {sparse.growth: [gradient, momentum]}",
            ["gradient", "momentum"],
        ),
        (
            "kind: rl\nbase: {sparse.method: set}\n"
            "grid: {sparse.growth: [random, unfired], sparse.drop: [magnitude, sensitivity]}",
            [
                "random magnitude",
                "random sensitivity",
                "unfired magnitude",
                "unfired sensitivity",
            ],
        ),
        (  # the method says enough where growth follows from it
            "kind: cl\ngrid: {sparse.method: [dense, static, set, rigl, srigl]}",
            ["dense", "static", "set", "rigl", "srigl"],
        ),
        (
            "blocks:\n"
            "- {kind: cl, grid: {sparse.method: [dense, static, set]}}\n"
            "- {kind: cl, base: {sparse.method: rigl}, "
            "grid: {sparse.growth: [gradient, momentum]}}",
            ["dense", "static", "set random", "rigl gradient", "rigl momentum"],
        ),
        (
            "kind: cl\nbase: {sparse.method: set}\n"
            "grid: {sparse.structure: [unstructured, constant_fan_in]}",
            ["unstructured", "constant_fan_in"],
        ),
        (
            "kind: cl\nbase: {sparse.method: set}\ngrid: {isolation: [hard, none]}",
            ["hard", "isolation=none"],
        ),
        (
            "kind: rl\nbase: {actor_method: set, critic_method: rigl}\n"
            "grid: {sparse.drop: [magnitude, signed]}",
            ["magnitude", "signed"],
        ),
    ],
)
def test_labels_name_the_rules_in_force(text: str, labels: list[str]) -> None:
    runs = parse(f"name: x\n{text}").runs
    axes = Axes(runs)
    assert [axes.label(run) for run in runs] == labels


def test_a_rule_of_actor_and_one_of_critic_are_both_named() -> None:
    text = "kind: rl\nbase: {critic_method: rigl}\ngrid: {actor_method: [set, rigl, static]}"
    axes = Axes(runs := parse(f"name: x\n{text}").runs)
    assert [axes.values(run).get("sparse.growth") for run in runs] == [
        "random/gradient",
        "gradient",
        "none/gradient",
    ]


def test_what_tuning_found_tells_apart_only_what_nothing_else_does() -> None:
    text = "kind: cl\ninclude:\n" + "".join(
        f"  - {{sparse.method: {method}, sparse.sparsity: {sparsity}, lr: {rate}}}\n"
        for method, sparsity, rate in (
            ("set", 0.9, 0.01), ("set", 0.95, 0.02), ("rigl", 0.9, 0.03), ("rigl", 0.95, 0.04)
        )
    )  # fmt: skip
    runs = parse(f"name: x\n{text}").runs
    assert [Axes(runs).label(run) for run in runs][:2] == ["set lr=0.01", "set lr=0.02"]
    tuned = Axes(runs, ["lr"])
    assert tuned.tuned == ("lr",) and "lr" not in tuned.telling
    assert [tuned.label(run) for run in runs][:2] == ["set sparsity=0.9", "set sparsity=0.95"]
    same = parse("name: x\nkind: cl\ngrid: {lr: [0.01, 0.02]}").runs
    assert [Axes(same, ["lr"]).label(run) for run in same] == ["lr=0.01", "lr=0.02"]


def test_what_is_shown_leaves_identities_alone() -> None:
    for kind in ("rl", "cl", "crl", "xmc", "rec", "vision"):
        (run,) = parse(f"name: x\nkind: {kind}\nbase: {{sparse.method: rigl}}").runs
        (same,) = parse(
            f"name: x\nkind: {kind}\nbase: {{sparse.method: rigl, sparse.growth: gradient}}"
        ).runs
        assert run.run_id == same.run_id and run.record()["spec"]["sparse"]["growth"] is None
        assert specs.shown(run.spec)["sparse.growth"] == "gradient"


def test_tasks_are_named_apart(toys: Toys) -> None:
    runs = toys("kind: toy\ngrid: {task: [tower, bridge]}").runs
    assert [Axes(runs).task_of(run) for run in runs] == ["tower", "bridge"]


def test_a_field_that_plays_no_part_has_no_value(toys: Toys) -> None:
    runs = toys(
        "kind: toy\nbase: {sparse.sparsity: 0.9}\n"
        "grid: {sparse.method: [dense, set], sparse.distribution: [erk, uniform]}"
    ).runs
    axes = Axes(runs)
    assert axes.names == ("sparse.method", "sparse.distribution", "sparse.sparsity")
    assert axes.telling == ("sparse.method", "sparse.distribution")
    assert axes.values(runs[0]) == {"sparse.method": "dense"}
    assert axes.values(runs[2]) == {
        "sparse.method": "set",
        "sparse.distribution": "uniform",
        "sparse.sparsity": 0.9,
    }


def test_runs_that_differ_by_seed_are_one_group(toys: Toys) -> None:
    runs = toys("kind: toy\ngrid: {rate: [1, 2]}\nseeds: 3").runs
    axes = Axes(runs)
    one, other = axes.group(runs[0]), axes.group(runs[3])
    assert [axes.group(run) for run in runs] == [one] * 3 + [other] * 3 and one != other
