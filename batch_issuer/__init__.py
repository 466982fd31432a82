"""Device certificates by the million: a manifest of UUIDs in; keys, certificates and bundles out, exactly once."""

__version__ = "0.1.0"

__all__ = ["__version__"]
