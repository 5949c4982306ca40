"""What can be asked about visits and events: one question type, one answer type."""
