"""Images in: folders, archives, decoding, order, views."""
