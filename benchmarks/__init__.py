"""Figures against limits and peers: `python -m benchmarks` runs all, `python -m benchmarks B1 B5` some."""
