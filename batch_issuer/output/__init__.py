"""A run's output folder: where everything is, what was asked, and the rows of what was issued."""
