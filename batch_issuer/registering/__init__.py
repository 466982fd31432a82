"""Registering the devices of a run at the factory's API, ahead of their first contact."""
