"""Requests to addresses that users name: guarded, because they may name what only this machine can reach."""
