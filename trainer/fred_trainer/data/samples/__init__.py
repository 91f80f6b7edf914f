"""From pairs of an index to augmented samples and batches on the canvas of the detector."""
