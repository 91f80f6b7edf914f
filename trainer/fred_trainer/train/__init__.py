"""The training loop, its state, and how it goes on after a stop."""
