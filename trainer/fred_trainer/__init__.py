"""The two-stream (RGB + event) fusion trainer for FRED."""
