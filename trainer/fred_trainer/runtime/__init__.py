"""What a process runs on and with: device, precision, ranks, drills."""
