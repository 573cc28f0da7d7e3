"""Questions about a sample, from evidence alone, checked and rationed (docs/qa.md)."""
