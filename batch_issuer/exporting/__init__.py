"""A run's devices as the files that clouds' bulk imports take: public parts only."""
