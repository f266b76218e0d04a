"""What a run would need, before anything of it runs: `python -m ssd.plan RUN_DIR`."""
