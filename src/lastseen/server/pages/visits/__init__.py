"""The pages about visits: figures over time, all visits, one visit."""

from lastseen.server.pages.visits.listing import show_visits
from lastseen.server.pages.visits.one import show_visit
from lastseen.server.pages.visits.overview import show_overview, show_overview_rows

VISIT_PAGES = (show_overview, show_overview_rows, show_visits, show_visit)

__all__ = ["VISIT_PAGES"]
