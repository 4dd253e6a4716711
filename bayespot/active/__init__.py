"""What to calculate next: acquisition, oracles, the ledger and the loop around them."""

from bayespot.active.acquisition import ACQUISITIONS, Choice, choose
from bayespot.active.campaign import (
    CampaignEvent,
    CampaignResult,
    CampaignSettings,
    run_baseline,
    run_campaign,
)
from bayespot.active.learner import Learner, potential_learner
from bayespot.active.ledger import Ledger
from bayespot.active.report import compare_campaigns, labels_needed, status
from bayespot.oracles import (
    ArchiveOracle,
    CalculatorOracle,
    LabelledResult,
    Oracle,
    make_oracle,
)

__all__ = [
    "ACQUISITIONS",
    "ArchiveOracle",
    "CalculatorOracle",
    "CampaignEvent",
    "CampaignResult",
    "CampaignSettings",
    "Choice",
    "LabelledResult",
    "Learner",
    "Ledger",
    "Oracle",
    "choose",
    "compare_campaigns",
    "labels_needed",
    "make_oracle",
    "potential_learner",
    "run_baseline",
    "run_campaign",
    "status",
]
