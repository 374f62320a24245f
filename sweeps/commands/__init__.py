"""What `dst` does, a file each, and the words and options that it takes."""
