"""The world: scenes drawn from chance, their pictures, masks and captions."""
