"""Redis: live text between processes, as long as it lasts. Nothing is lost with it."""
