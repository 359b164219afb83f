"""Callbacks: a run's end is told to the URL that its caller named, signed, at least once."""
