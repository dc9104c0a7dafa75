"""A containerized DAG runner for files, with object storage."""
