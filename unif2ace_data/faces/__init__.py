"""Faces: decode a photo, find its faces, measure them, align and crop them."""
