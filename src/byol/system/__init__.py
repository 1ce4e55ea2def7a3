"""What everything stands on: device, processes, signals, locks, files, digests, progress."""
