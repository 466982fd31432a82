"""A stand-in of the factory's servers on one machine, to rehearse with."""
