"""The page that compares what a grid compares."""
