"""The site's pictures, each drawn from a run of the code: `python -m handbook.pictures`."""
