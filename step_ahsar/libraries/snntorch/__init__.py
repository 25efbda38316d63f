"""snnTorch: its neurons as a backend, and how a threshold scale enters its nodes."""
