"""Tests of what turns bytes into events, and of what makes them durable."""
