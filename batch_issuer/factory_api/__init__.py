"""The client of the factory's API: certificates of the PKI, and devices."""
