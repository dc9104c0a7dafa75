"""Tests of what a soak is made of."""
