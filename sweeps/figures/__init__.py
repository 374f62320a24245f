"""Figures of the report: a file each, which draws the panels of one figure on a `Sheet`."""
