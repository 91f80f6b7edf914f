"""How good a detector is, and whether it still works."""
