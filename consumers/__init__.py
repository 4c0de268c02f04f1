"""Everything after an event was accepted: route it, deliver its notifications, retry, and repair what got lost on the way."""
