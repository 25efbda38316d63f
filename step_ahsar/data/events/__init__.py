"""Recordings of event cameras: reading them, and making frames of them."""
