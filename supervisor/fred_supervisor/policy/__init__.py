"""What to do, as pure functions: state and observation in, state and actions out. No clock, no files, no processes."""
