"""What a module can do: the descriptor, loading, registry, drafting."""
