"""Where image i is: in a folder, a list, an archive, a pack."""
