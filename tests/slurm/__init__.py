"""A Slurm of one node, from Debian's packages, for tests of the launcher: `make test-slurm`."""
