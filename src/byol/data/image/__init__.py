"""Pictures: decoding, cutting, distorting."""
