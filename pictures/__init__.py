"""Pictures and masks as tensors: read, checked, cropped and mended; no model, no host."""
