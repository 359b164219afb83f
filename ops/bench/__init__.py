"""The benchmark: this service against a plain FastAPI + LangGraph + PostgreSQL one, on one mock provider. `uv run python -m ops.bench`."""
