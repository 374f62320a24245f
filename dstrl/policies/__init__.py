"""Sparse policies of Stable-Baselines3 and sb3-contrib, and their parts."""
