"""Runs of several people on one machine: who may read one, and which ones there are."""
