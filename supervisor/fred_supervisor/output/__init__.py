"""Where training is, read from what a trainer prints. Pure: lines come in, a position comes out."""
