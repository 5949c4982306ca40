"""Applications with a location report, for real servers."""
