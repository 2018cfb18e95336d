"""What a concept does at sampling time: patched clones of the user's MODEL and CLIP."""
