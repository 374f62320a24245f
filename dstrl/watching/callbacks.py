"""`SparseCallback`: tells the engines how long training will be, and logs what they do."""

from __future__ import annotations

from stable_baselines3.common.callbacks import BaseCallback

from dstrl.policies.mixin import SparsePolicy
from dstrl.watching.horizon import optimizer_steps
from dstrl.watching.metrics import (
    active_neurons,
    activity,
    flops_ratios,
    gradient_noise,
    representation_rank,
    topology_numbers,
)
from sparse_core import Engine
from sparse_core.checks import InputError
from sparse_core.metrics import TopologyMeter

FILES_ONLY = ("stdout", "log")


class SparseCallback(BaseCallback):
    """Sets the horizon of a sparse policy's schedules, and logs the topology.

    Without it training works too: then the drop fraction stays at its initial value and updates go
    on to the end, unless the configuration has a `horizon` in optimizer steps.

    With `learn(reset_num_timesteps=False)` the schedule goes on from where it was.

    Logged at the first rollout and whenever the topology was updated, if the logger writes anywhere
    (`verbose=1`, TensorBoard, `set_logger`), for each network (`policy`, or `actor` and `critic`,
    or `q_net`):

    | key | meaning |
    |-|-|
    | `sparsity/{net}/{layer}` | fraction of a layer's weights that is inactive |
    | `dst/{net}/drop_fraction` | what fraction of active weights the next update may move |
    | `dst/{net}/updates` | updates of the topology so far |
    | `dst/{net}/n_grown`, `n_dropped`, `n_ablated` | weights and neurons, in the last update |
    | `dst/{net}/churn` | fraction of the active weights that the last update replaced |
    | `dst/{net}/n_reset` | neurons that started anew at the last reset of dormant ones |
    | `dst/{net}/divergence` | positions of the masks that the last update changed (SAD) |
    | `dst/{net}/grad_snr` | signal-to-noise ratio of single samples' gradients |
    | `dst/{net}/overlap` | fraction of the weights active at the start that still are |
    | `dst/{net}/itop_rs` | weights that have ever been active / all weights |
    | `neurons/{net}/active_frac` | neurons that have weights / all neurons |
    | `neurons/{net}/dead_out` | neurons with weights that no neuron reads |
    | `neurons/{net}/dormant_0`, `dormant_0.025` | neurons that are silent on recent observations |
    | `rep/srank` | effective rank of the features that the value function is linear in |
    | `flops/infer_ratio`, `train_ratio` | operations relative to dense networks |
    | `params/total_active` | active weights of all networks |
    """

    def __init__(self, verbose: int = 0) -> None:
        super().__init__(verbose)
        self._logged: dict[str, int] = {}
        self._meters: dict[str, TopologyMeter] = {}

    @property
    def _engines(self) -> dict[str, Engine]:
        policy = self.model.policy
        if not isinstance(policy, SparsePolicy):
            kind = type(policy).__name__
            raise InputError(f"policy={kind}: SparseCallback needs a sparse policy", field="policy")
        return policy.sparse_engines

    def _on_training_start(self) -> None:
        self._logged = {}
        for name, engine in self._engines.items():
            steps = optimizer_steps(self.model, name)
            if steps and engine.config.horizon is None:
                engine.set_horizon(engine.phase + steps)
            self._meters[name] = TopologyMeter(engine)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        updates = {name: engine.updates for name, engine in self._engines.items()}
        if updates != self._logged:
            self._logged = updates
            self._record()

    def _on_training_end(self) -> None:
        self._record()
        for meter in self._meters.values():
            meter.detach()
        self._meters = {}

    def _record(self) -> None:
        if not getattr(self.logger, "output_formats", True):
            return
        record = self.logger.record
        active = 0
        for name, engine in self._engines.items():
            for layer in engine.layers():
                active += layer.active
                label = layer.name.removesuffix(".weight")
                record(f"sparsity/{name}/{label}", 1 - layer.active / layer.total, FILES_ONLY)
            record(f"dst/{name}/drop_fraction", engine.fraction)
            for key, value in topology_numbers(engine, self._meters[name]).items():
                record(f"dst/{name}/{key}", value)
            for key, value in active_neurons(engine).items():
                record(f"neurons/{name}/{key}", value)
        for key, value in activity(self.model).items():
            record(f"neurons/{key}", value)
        for key, value in gradient_noise(self.model).items():
            record(f"dst/{key}/grad_snr", value)
        rank = representation_rank(self.model)
        if rank is not None:
            record("rep/srank", rank)
        for key, value in flops_ratios(self.model).items():
            record(f"flops/{key}", value)
        record("params/total_active", active)
