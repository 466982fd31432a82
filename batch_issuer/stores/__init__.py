"""Object stores: addresses, objects under a prefix, and the lease that keeps two runs apart."""
