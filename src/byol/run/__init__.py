"""What lies in a run folder: paths, records, checkpoints, where it comes from."""
