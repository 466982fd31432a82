"""Key ceremonies: making and changing the factory's PKI, in its directory and where the gateway's keys are held."""
