"""What leaves the house: results.json, model cards, W&B."""
