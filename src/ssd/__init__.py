"""Simple self-distillation: sample from a frozen model, fine-tune it on its own samples, measure the change."""

__version__ = "0.1.0"
