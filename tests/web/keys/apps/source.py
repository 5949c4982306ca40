"""Where a device is named."""

from __future__ import annotations

from lastseen.activity.identify import first_of, header, json_body, path

DEVICE = first_of(header("X-Device-ID"), path("/devices/{device_id}/location", "device_id"), json_body("device_id"))
"""Every place that a device can be named in."""
