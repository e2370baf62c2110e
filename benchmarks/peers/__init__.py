"""The tool against others of its kind: the same work on the same slices, timed in turn."""
