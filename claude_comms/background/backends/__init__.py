"""How instances think: one file for each backend, and their protocol."""
