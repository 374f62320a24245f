"""One run of reinforcement learning: its spec, training, evaluation and replay."""
