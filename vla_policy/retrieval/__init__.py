"""Retrieval: vector indexes, search over demonstrations, and the measures of both."""
