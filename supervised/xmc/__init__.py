"""One run of extreme classification: its spec, model, losses, metrics and training."""
