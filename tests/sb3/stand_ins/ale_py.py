"""Stands in for `ale_py`, which one file of tests imports, also in the processes that it starts."""
