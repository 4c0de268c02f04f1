"""The dashboard: what is happening, and the story of each event."""
