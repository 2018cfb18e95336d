"""Learning a concept: one loop, and one file a method."""
