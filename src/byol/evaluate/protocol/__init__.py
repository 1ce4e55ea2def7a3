"""Protocols: what it means for an encoder to be good at a task, each in a file of its own."""
