"""The factory's own certificate authorities: making them, checking them, and signing with them."""
