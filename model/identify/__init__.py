"""Enrol people in a gallery file, and identify or verify people by how they walk."""
