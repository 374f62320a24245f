"""Tuning: every method of a grid gets values of its own, from equally many trials.

A trial is a run for each tuning seed, each an ordinary run with a directory of its own. Optuna
proposes the trials and keeps its journal beside them; nothing else is stored.
"""
