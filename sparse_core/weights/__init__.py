"""One sparse weight while it lives: its topology, gradients, optimizer state and followers."""
