"""The domain, its storage, and the HTTP way in."""
