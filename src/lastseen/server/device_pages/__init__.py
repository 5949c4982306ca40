"""The pages about devices, groups, API keys and sites: listed, made, changed, and ended."""

from lastseen.server.device_pages.device import DevicePages
from lastseen.server.device_pages.device_list import DeviceListPages
from lastseen.server.device_pages.groups import GroupPages
from lastseen.server.device_pages.key import KeyPages
from lastseen.server.device_pages.key_list import KeyListPages
from lastseen.server.device_pages.key_making import KeyMakingPages
from lastseen.server.device_pages.sites import SitePages

DEVICE_PAGES = (DeviceListPages, DevicePages, GroupPages, KeyListPages, KeyPages, KeyMakingPages, SitePages)

__all__ = ["DEVICE_PAGES"]
