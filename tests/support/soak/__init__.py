"""A whole system on one machine under a seeded nemesis: what `scripts/soak` runs, and how it tells of it."""
