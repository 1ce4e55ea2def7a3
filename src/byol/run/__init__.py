"""What a run stands on: device, folder, records, checkpoints, progress."""
