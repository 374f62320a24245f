"""YAML read strictly: a key given twice is an error, `1e-3` is a number and `1:30:00` is none."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from sparse_core.checks import InputError


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, but strict about keys and in its eye for numbers."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise InputError(f"{key!r}: a key must be text (quote it)")
            if key in seen:
                raise InputError(f"{key}: given twice (line {key_node.start_mark.line + 1})")
            seen.add(key)
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+"),
    list("-+0123456789"),
)
for _digit in "-+0123456789":  # ahead of YAML 1.1's numbers to the base of 60
    _StrictLoader.yaml_implicit_resolvers[_digit].insert(
        0, ("tag:yaml.org,2002:str", re.compile(r"[-+]?\d[\d_]*(:\d+)+(\.\d*)?$"))
    )


def read_yaml(text: str) -> Any:
    """Read YAML strictly.

    Raises:
        InputError: If it is not valid, or a key is given twice.
    """
    try:
        return yaml.load(text, _StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise InputError(f"not valid YAML: {error.problem}{where}") from error
    except yaml.YAMLError as error:
        raise InputError(f"not valid YAML: {' '.join(str(error).split())}") from error
