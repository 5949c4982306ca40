"""The pages about devices, groups, API keys and sites: listed, made, changed, and ended."""

from lastseen.server.pages.devices.device import DevicePages
from lastseen.server.pages.devices.device_list import DeviceListPages
from lastseen.server.pages.devices.groups import GroupPages
from lastseen.server.pages.devices.key import KeyPages
from lastseen.server.pages.devices.key_list import KeyListPages
from lastseen.server.pages.devices.key_making import KeyMakingPages
from lastseen.server.pages.devices.sites import SitePages

DEVICE_PAGES = (DeviceListPages, DevicePages, GroupPages, KeyListPages, KeyPages, KeyMakingPages, SitePages)

__all__ = ["DEVICE_PAGES"]
