"""The second pair of eyes: checks everything that a run wrote, and shares no code with what made it."""
