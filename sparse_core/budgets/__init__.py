"""Who gets how many weights, and in what pattern."""
