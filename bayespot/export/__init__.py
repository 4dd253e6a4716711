"""Potentials as files and input lines of LAMMPS, and back."""
