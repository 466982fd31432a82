"""Every bundle's real mutual-TLS request against a device gateway."""
