"""Copies of visits and events in engines that count fast; each implements `lastseen.reports.copy.ReportCopy`."""
