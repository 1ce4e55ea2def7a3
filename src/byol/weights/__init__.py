"""Every door through which an encoder comes in or goes out."""
