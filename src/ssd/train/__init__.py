"""Corpus -> checkpoint: completion-only cross-entropy on the stored token ids."""
