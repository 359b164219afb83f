"""Batches: many calls of one agent that nobody waits for, sent to a provider's Batch API and looked after until each has an outcome."""
