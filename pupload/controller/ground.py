"""What the parts of one controller stand on. A part that needs more of it than it could name is given all of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from pupload.config import ControllerConfig
from pupload.controller.limits import Limits
from pupload.controller.secrets import SecretBox
from pupload.controller.service import Service
from pupload.controller.signals import Signals
from pupload.controller.stores import Stores
from pupload.db.pool import Database
from pupload.tiers import Tier
from pupload.web.guarded import Web


@dataclass(frozen=True, slots=True)
class Ground:
    """The ground of one controller."""

    config: ControllerConfig
    service: Service
    stores: Stores
    signals: Signals
    web: Web
    box: SecretBox
    tiers: Mapping[str, Tier]
    limits: Limits

    @property
    def database(self) -> Database:
        """The service's."""
        return self.service.database
