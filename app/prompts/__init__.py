"""Prompts: versions, variables, and what the model reads of them."""
