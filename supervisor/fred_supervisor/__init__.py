"""Keeps a training run alive and explains every failure."""

__version__ = "0.2.0"
