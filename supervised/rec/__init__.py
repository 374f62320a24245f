"""One run of recommendation: its spec, models, samplers, metrics and training."""
