"""Automated search: a budget in, the pipelines worth trying, which to try next, and what was found."""
