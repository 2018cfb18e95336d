"""A complete small Stable Diffusion family and the drawn world it knows."""
