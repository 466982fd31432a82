"""This machine's speed beside its own floor: what `batch-issuer bench` and the long benchmark measure with."""
