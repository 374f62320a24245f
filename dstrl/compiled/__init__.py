"""Algorithms of Stable-Baselines3 whose gradient steps run on kernels alone.

    from dstrl import SAC, SparseSACPolicy

    model = SAC(SparseSACPolicy, env, policy_kwargs=dict(sparse=...))

Each is its namesake with another `train`. It computes what the original does, in the same order
and from the same random numbers, but without autograd; what only the original can do is left to it.
See `dstrl.compiled.training`.
"""
