"""Sources: what lies in folders, tars, tables and videos, listed without being opened, read by workers."""
