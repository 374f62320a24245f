"""One run of continual learning: its spec, data, networks, training and metrics."""
