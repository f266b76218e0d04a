"""The paper's toy machine of locks and forks."""
