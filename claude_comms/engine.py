"""Where descriptors, store, context and pool meet: takes a question its whole way."""
