"""States written, thinned out and read."""
