"""Who may use the service: API keys, signed tokens, and the principal that a request is by."""
