"""PostgreSQL: the pool, and stores whose SQL stands in .sql files beside them."""
