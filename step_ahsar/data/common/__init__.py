"""What all kinds of data have in common: the registry, where files are, faults, splits, fingerprints, seeds."""
