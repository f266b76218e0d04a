"""Whether a model can be sampled, trained, exported and loaded again, asked before anything is
spent."""
