"""Spiking transformers, any spiking neuron on any backend, and AHSAR, which needs no threshold tuning."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("step-ahsar")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
