"""Prompts -> corpus: one answer per prompt from the frozen model, kept raw."""
