"""Sinabs: its neurons as a backend."""
