"""The imperative shell: processes, files, signals and clocks around the pure policy."""
