"""Trackers: runs shown in TensorBoard, Weights & Biases or MLflow.

A tracker follows the files that a run writes, from a process of its own beside the run: no kind of
run knows of trackers, and whatever happens to one happens to no run.
"""
