"""Sweeps: grids of runs, a store that survives crashes, launchers, statistics and reports.

The driver imports neither torch nor a framework: a run's spec and runner are import strings that
only the child process, `sweeps.worker`, resolves as a whole.
"""
