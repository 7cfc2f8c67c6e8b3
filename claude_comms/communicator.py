"""The public face: communicators over an engine."""
