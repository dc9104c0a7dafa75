"""The client of a controller, for programs and for the command line. The way in is `client.AsyncClient`."""
