"""Continual reinforcement learning: tasks in sequence, learnt by one policy."""
