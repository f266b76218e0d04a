"""What a run would need, before any stage starts: `python -m ssd.plan RUN_DIR`."""
