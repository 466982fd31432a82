"""The ledger across runs: which devices were issued, by which run, and which an unfinished run holds."""
