"""A failure in one file, for a colleague or an issue; and the same steps again, alone."""
