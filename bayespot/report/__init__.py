"""Pictures and a summary for people, written beside the results of a run."""

from bayespot.report.campaigns import campaign_lines, write_campaign_report
from bayespot.report.comparison import Comparison, compare, score_lines
from bayespot.report.converged import write_convergence_report
from bayespot.report.fitted import write_fit_report
from bayespot.report.properties import property_lines, write_property_report
from bayespot.report.validated import write_comparison_report, write_validation_report

__all__ = [
    "Comparison",
    "campaign_lines",
    "compare",
    "property_lines",
    "score_lines",
    "write_campaign_report",
    "write_comparison_report",
    "write_convergence_report",
    "write_fit_report",
    "write_property_report",
    "write_validation_report",
]
