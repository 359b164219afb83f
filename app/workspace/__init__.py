"""What a user writes: settings, agents, prompts and tools in one folder."""
