"""What is logged while a policy trains."""
