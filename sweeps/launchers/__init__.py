"""Launchers: each maps the same idempotent worker over the runs that are left to do.

A launcher trusts the store alone: a run that is done is skipped, one that is held is waited for.
"""
