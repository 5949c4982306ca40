"""For the tests of applications and of stores: a clock moved by hand, factories, and the contracts that stores keep.

Inherit a contract in your own test module; it is collected as part of your tests. Needs pytest.
"""

from lastseen.testing.clients import ClientStoreContract
from lastseen.testing.clock import ManualClock
from lastseen.testing.credentials import CredentialSourceContract
from lastseen.testing.devices import DeviceStoreContract
from lastseen.testing.factories import moment, updates
from lastseen.testing.recorder import ActivityRecorderContract
from lastseen.testing.sessions import SessionStoreContract
from lastseen.testing.sites import SiteStoreContract
from lastseen.testing.visits import VisitStoreContract

__all__ = [
    "ActivityRecorderContract",
    "ClientStoreContract",
    "CredentialSourceContract",
    "DeviceStoreContract",
    "ManualClock",
    "SessionStoreContract",
    "SiteStoreContract",
    "VisitStoreContract",
    "moment",
    "updates",
]
