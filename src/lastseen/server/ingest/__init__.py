"""Where events come in over HTTP: open to every origin, and before everything else."""
