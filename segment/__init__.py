"""The subject of a picture as a mask: prompts, candidates, and how they are shown."""
