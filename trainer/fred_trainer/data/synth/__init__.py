"""Synthetic sequences in the published layouts."""
