"""What the store holds, what refers to what, and corpora that leave it or enter it."""
