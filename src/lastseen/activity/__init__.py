"""Who was active when: record in memory, write in batches."""
