"""Login sessions: deadlines, truthful last activity, safe by default, revocable."""
