"""Functional forms, one file each, and how they are declared."""
