"""Demos of the lecture's claims, in reading order; `python -m demos` lists them."""
