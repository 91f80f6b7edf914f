"""What a person sees: progress, curves, pictures."""
