"""What other programs and sites read: results.json, model cards, W&B."""
