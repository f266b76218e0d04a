"""The problems that a model is asked, and how its answers are judged."""
