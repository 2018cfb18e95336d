"""The waist of the pack: what a learned concept is, and how it lies in a file."""
