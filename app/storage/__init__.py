"""Where things are kept. `postgres` is the truth, `redis` is speed."""
