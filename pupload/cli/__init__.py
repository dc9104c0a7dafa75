"""The command line: `pup`."""
