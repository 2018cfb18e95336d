"""The only door to the host: what the engine needs of ComfyUI, as plain functions and classes."""
