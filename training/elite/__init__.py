"""ELITE: training of an encoder in stages, and its use on a picture."""
