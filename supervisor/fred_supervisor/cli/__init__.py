"""The commands of `fred-supervise`, one module each."""
