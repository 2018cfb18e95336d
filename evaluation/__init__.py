"""How good a concept is: feature extractors, pure score functions, and a report."""
