"""Streamed answers: events by bytes, what was delivered, how they go on and how they end."""
