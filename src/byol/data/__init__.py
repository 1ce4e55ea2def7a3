"""What is learned from: sets, how they are opened, their order, batches of views."""
