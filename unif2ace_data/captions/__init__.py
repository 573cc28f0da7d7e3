"""Captions: grounded (from evidence alone); every claim is linked to its attribute and its span."""
