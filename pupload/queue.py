"""The queue of attempts: PgQueuer behind a few functions."""
