"""How well personal data and secrets are found, and how fast."""
