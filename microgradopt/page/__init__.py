"""The page: a computation to step through, forward and back."""

from microgradopt.page.page import Page, explain

__all__ = ["Page", "explain"]
