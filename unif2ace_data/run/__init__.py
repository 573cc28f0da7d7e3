"""Running: what is done and what is left, where work runs, and the order of the stages."""
