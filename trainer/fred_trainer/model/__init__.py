"""Detector, backbones and the weights they start from."""
