"""Devices, groups and API keys: what calls, with what right, and when it last did."""
