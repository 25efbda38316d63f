"""BrainCog: its neurons as a backend, how a threshold scale enters its nodes, the layouts of STEP's models."""
