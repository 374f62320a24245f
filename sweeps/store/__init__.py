"""One directory a run, in which every state survives a crash."""
