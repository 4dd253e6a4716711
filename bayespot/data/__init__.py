"""What is known: structures with energies, forces and stresses, and the files they come from."""
