"""Training structures: from an element or a prototype to the families that a potential needs."""
