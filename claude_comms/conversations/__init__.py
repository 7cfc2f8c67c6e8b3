"""What was said: store, search, export."""
