"""The server's own users: names, passwords, one-time links, who did what."""
