"""The adapters: one table of cases through all of them, then each one's own promises, then real servers."""
