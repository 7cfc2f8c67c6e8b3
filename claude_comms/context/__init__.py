"""What to say: (source, target, history, question, budget) → Prompt. Pure, no I/O."""
