"""The manifest that comes in: its columns, reading it, and what makes a row unfit."""
