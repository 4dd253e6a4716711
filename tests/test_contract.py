"""Every registered potential keeps the contract, with one and with two species."""

import pytest

import bayespot
from bayespot.errors import ContractBroken
from bayespot.potentials.pair import PairPotential
from bayespot.testing import check_potential

FORMS = bayespot.registry()


@pytest.mark.parametrize("species", [("Si",), ("Si", "Ge")], ids="-".join)
@pytest.mark.parametrize("name", FORMS)
def test_contract(name, species):
    made = check_potential(FORMS[name], species=species)
    assert len(made) == 10


def test_the_contract_can_fail():
    """A form without a switch is not smooth at its cutoff, and the contract says where."""
    rough = FORMS["LennardJones"](species=("Si",), switch_width=0.0, cutoff=4.0)
    with pytest.raises(ContractBroken, match="vanish at the cutoff"):
        check_potential(rough)


def test_a_wrong_force_is_found():
    class Leaky(PairPotential):
        """A pair energy that does not belong to its force."""

        def phi(self, r):
            return 1.0 / r

        def energy_and_edge_gradient(self, chunk):
            energy, gradient = super().energy_and_edge_gradient(chunk)
            return energy, 1.01 * gradient

    with pytest.raises(ContractBroken, match="forces are -dE/dR"):
        check_potential(Leaky)
