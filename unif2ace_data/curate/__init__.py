"""Curation: who is who, and who goes to which split."""
