"""Published ways to share a network among tasks, as Avalanche strategies."""
