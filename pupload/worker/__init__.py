"""The worker: takes attempts from its controller and runs each in a container of its own."""
