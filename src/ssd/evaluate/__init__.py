"""Checkpoint -> generations, verdicts, scores: base and tuned model answer the same problems, and tests grade them."""
