"""What only a run's own libraries can refuse, asked in a process that has them before any run.

It is started with the records of runs:

    python -P -m sweeps.runs.refusals < RECORDS
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sparse_core.checks import InputError
from sparse_core.command import search_here
from sparse_core.imports import load as load_object
from sweeps.language import hooks, kinds
from sweeps.language.grid import Run
from sweeps.language.spec import load


def refusals(runs: Sequence[Run]) -> list[str]:
    """Return what is said against each run, empty where nothing is.

    Specs without `refused_by` cost nothing; if the process fails, runs will say it themselves.
    """
    asked = [run for run in runs if isinstance(run.spec, hooks.Refused) and run.spec.refused_by()]
    if not asked:
        return [""] * len(runs)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sweeps.runs.refusals"],
        input=json.dumps([run.record() for run in asked]),
        capture_output=True,
        text=True,
        check=False,
    )
    said = json.loads(done.stdout) if done.returncode == 0 else [""] * len(asked)
    answers = dict(zip((run.run_id for run in asked), said, strict=True))
    return [answers.get(run.run_id, "") for run in runs]


def _said(record: Mapping[str, Any]) -> str:
    spec = load(kinds.spec_type(record["spec_type"]), record["spec"])
    try:
        load_object("refused_by", spec.refused_by(), "a function", callable)(spec)
    except InputError as error:
        return str(error)
    return ""


def main() -> int:
    """Answer for the records on standard input."""
    search_here()
    json.dump([_said(record) for record in json.load(sys.stdin)], sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
