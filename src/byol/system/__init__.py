"""What everything stands on: device, processes, signals, locks, progress."""
