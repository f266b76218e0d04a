"""What a run would need, before any stage starts: `ssd plan RUN_DIR`."""
