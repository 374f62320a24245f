"""Sparse samples: where they lie, how they are read, split and cut into batches."""
