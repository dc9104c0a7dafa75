"""Containers on a Docker engine: what they may do, and the adapter that talks to the engine."""
