"""The HTTP way in, one file per resource: a handler reads the request, calls accept or the store, and writes the answer."""
