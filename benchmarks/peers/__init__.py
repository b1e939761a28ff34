"""Plain re-implementations of published policies, for speed alone: same shapes and sizes, random weights."""
