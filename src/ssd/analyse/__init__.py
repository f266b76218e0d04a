"""What training did to a model's token distributions: locks, forks, and the loss in its parts."""
