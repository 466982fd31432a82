"""An outside judge of certificates: pkilint, and which of its findings the factory's fixed profiles explain."""
