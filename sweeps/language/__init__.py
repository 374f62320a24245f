"""What a grid's file says: kinds, specs and their fields, blocks, and the runs it stands for."""
