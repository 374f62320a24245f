"""What a run leaves of what it has learnt, and how that is read without running code from it.

- `model.zip` is Stable-Baselines3's own format. Its weights are tensors. Here they are all that is
  read, into an algorithm that is built from the run's spec. The rest is pickled: `PPO.load` and its
  kin unpickle it, and so run whatever its author put there.
- `normalise.npz` has mean, variance and count of observations and of discounted returns, if they
  were normalised.
"""

from __future__ import annotations

import pickle
import textwrap
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecNormalize

from sparse_core.checks import InputError

MODEL, STATISTICS = "model.zip", "normalise.npz"

SHOWN = 250
"""Characters of an error that are shown: torch's can list every layer."""

FORMER = "normalise.pkl"
"""Where statistics were, pickled."""


def save(model: BaseAlgorithm, out: Path) -> None:
    """Write what an algorithm has learnt into a folder, which is made if it does not exist."""
    out.mkdir(parents=True, exist_ok=True)
    model.save(out / MODEL)
    normalise = model.get_vec_normalize_env()
    if normalise is not None:
        arrays: dict[str, Any] = {
            f"{name}/{key}": np.asarray(getattr(statistics, key))
            for name, statistics in _statistics(normalise)
            for key in ("mean", "var", "count")
        }
        np.savez(out / STATISTICS, **arrays)


def load(model: BaseAlgorithm, out: Path) -> None:
    """Read what `save` wrote into an algorithm that was just built from the same spec.

    Raises:
        InputError: If something is missing, cannot be read, or is of another spec.
    """
    path = out / MODEL
    if not path.is_file():
        raise InputError(f"model={str(path)!r}: there is no such file", field="model")
    try:
        with warnings.catch_warnings(action="ignore"):
            _, states, _ = load_from_zip_file(path, load_data=False, device="cpu")
        policy: Any = states["policy"]
        model.policy.load_state_dict(policy)
    except KeyError:
        raise _unreadable("model", path, "it holds no policy") from None
    except (RuntimeError, ValueError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise _unreadable("model", path, str(error)) from error
    normalise = model.get_vec_normalize_env()
    if normalise is not None:
        _load_statistics(normalise, out)


def _load_statistics(normalise: VecNormalize, out: Path) -> None:
    path = out / STATISTICS
    if (out / FORMER).exists() and not path.exists():
        raise InputError(
            f"normalise={str(out / FORMER)!r}: is a pickle of an earlier version, which could run "
            "code: do the run again",
            field="normalise",
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            for name, statistics in _statistics(normalise):
                mean, var, count = (arrays[f"{name}/{key}"] for key in ("mean", "var", "count"))
                if mean.shape != statistics.mean.shape or var.shape != mean.shape:
                    raise ValueError(f"{name}: of another shape than those of the environment")
                statistics.mean, statistics.var = mean, var
                statistics.count = float(count)
    except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise _unreadable("normalise", path, str(error)) from error
    normalise.training = False


def _statistics(normalise: VecNormalize) -> Iterator[tuple[str, RunningMeanStd]]:
    """Yield the running statistics by name."""
    if normalise.norm_obs:
        observed: Any = normalise.obs_rms
        if isinstance(observed, dict):
            for key, statistics in observed.items():
                yield f"observations/{key}", statistics
        else:
            yield "observations", observed
    yield "returns", normalise.ret_rms


def _unreadable(field: str, path: Path, why: str) -> InputError:
    reason = textwrap.shorten(why, SHOWN, placeholder=" ...")
    return InputError(f"{field}={str(path)!r}: cannot be read: {reason}", field=field)
