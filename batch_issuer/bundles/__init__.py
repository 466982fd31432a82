"""What a device gets, and how the bundles of a part are stored."""
