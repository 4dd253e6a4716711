"""What to calculate next: acquisition, the ledger and the loop around them."""

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

__all__ = [
    "ACQUISITIONS",
    "CampaignEvent",
    "CampaignResult",
    "CampaignSettings",
    "Choice",
    "Learner",
    "Ledger",
    "choose",
    "compare_campaigns",
    "labels_needed",
    "potential_learner",
    "run_baseline",
    "run_campaign",
    "status",
]
