"""A history of millions of notifications, and how long the dashboard and the API look for something in it."""
