"""One run in a process of its own: the worker, how it goes on after a kill, where it comes from."""
