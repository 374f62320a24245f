"""Records of the benchmark of reinforcement learning, as JSON and as text."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sweeps.bench.learning import Times
from sweeps.bench.rl_cases import METHOD, Case


@dataclass(frozen=True)
class Record:
    """One measurement, as it is written to JSON.

    `measure` is `learn` or `train`; `step` for a critic by itself. Ratios are the time of another
    contestant over that of this one: `ratio_to_dense` of medians, the others of means. None: that
    one did not take part.
    """

    algo: str
    net_arch: tuple[int, ...]
    sparsity: float
    method: str
    group: int
    backend: str
    median_ms: float
    ratio_to_dense: float
    measure: str
    library: str
    mean_ms: float
    mean_ratio_to_dense: float
    mean_ratio_to_sbx: float | None


def records(case: Case, what: str, times: Mapping[str, Times]) -> list[Record]:
    """Turn times by contestant into records, of `learn` or of `train`."""
    from sweeps.bench.agents import CONTESTANTS

    seconds = {name: t.steps if what == "learn" else t.trains for name, t in times.items()}
    medians = {name: 1e3 * statistics.median(s) for name, s in seconds.items()}
    means = {name: 1e3 * statistics.mean(s) for name, s in seconds.items()}
    found = []
    for name in times:
        contestant = CONTESTANTS[name]
        dense = contestant.backend == "dense"
        found.append(
            Record(
                case.algo if case.network == "mlp" else f"{case.algo}-{case.network}",
                contestant.net_arch or case.net_arch,
                0.0 if dense else case.sparsity,
                "dense" if dense else METHOD,
                contestant.group,
                contestant.backend,
                round(medians[name], 3),
                round(medians["dense"] / medians[name], 3),
                what,
                contestant.library,
                round(means[name], 3),
                round(means["dense"] / means[name], 3),
                round(means["sbx"] / means[name], 3) if "sbx" in means else None,
            )
        )
    return found


def line(record: Record) -> str:
    """Return one record as text."""
    arch = "x".join(map(str, record.net_arch))
    library = record.library if record.algo != "simba" else ""
    text = (
        f"{record.algo:9s} {record.measure} {arch:>9s} {record.sparsity:4.0%} {library:5s} "
        f"{record.backend:>9s} group {record.group}: median {record.median_ms:7.2f} ms "
        f"x{record.ratio_to_dense:.2f}, mean {record.mean_ms:7.2f} ms "
        f"x{record.mean_ratio_to_dense:.2f}"
    )
    other = record.mean_ratio_to_sbx
    return text if other is None else f"{text}, times SBX x{other:.2f}"


def write(path: Path, found: Sequence[Record]) -> None:
    """Write one object for each measurement."""
    partial = path.with_name(path.name + ".tmp")
    partial.write_text(json.dumps([asdict(record) for record in found], indent=1) + "\n")
    os.replace(partial, path)
