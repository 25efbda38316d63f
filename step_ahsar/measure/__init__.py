"""Measuring a model: firing rates (``firing.py``) and memory (``memory.py``)."""
