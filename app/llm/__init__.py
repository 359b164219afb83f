"""Models: targets of providers and the router that asks them. Only `openai_client` and `anthropic` import a vendor SDK, on first use."""
