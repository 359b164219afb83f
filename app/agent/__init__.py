"""The loop: pure rules over a run's state. Values in, values out."""
