"""What runs inside the sandbox: standard library only, and nothing of the project outside this
folder can be seen from there."""
