"""Visits: events folded into sequences, and why each began and ended."""
