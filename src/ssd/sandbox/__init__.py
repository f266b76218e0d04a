"""Running programs that nobody trusts: a package of its own, which knows no benchmark."""
