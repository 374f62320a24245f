"""What belongs to a task: its masks and tensors, and what other tasks may do with them."""
