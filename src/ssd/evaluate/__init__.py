"""Checkpoint -> generations, verdicts, scores: tests grade both models on the same problems."""
