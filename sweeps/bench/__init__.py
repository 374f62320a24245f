"""Speed of the sparse layers against dense products and other libraries."""
