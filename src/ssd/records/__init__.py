"""What passes between stages: each record with one writer, one reader and a version."""
