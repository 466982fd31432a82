"""What happened in a run, as one page for a person's eyes."""
