"""Commands that ship with the pack: train an ELITE encoder, score methods on a running ComfyUI."""
