"""How good an encoder is. Nothing here knows how it was trained."""
