"""A run's report."""
