"""AHSAR in other training code, for cases in which a call of ``regulate`` is not enough."""
