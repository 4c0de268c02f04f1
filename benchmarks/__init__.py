"""Figures about Tidings, measured on real servers and real processes."""
