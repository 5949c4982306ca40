"""From bytes on the wire to events that are durable before they are acknowledged."""
