"""Step 4 of an attempt: the image that all of its run uses, on this engine.

A run means by a name what the first of its attempts found it to mean. Where the claim could not settle that, because
this worker had not looked the name up for a while, the controller is asked before anything runs.
"""

from pupload.config import WorkerConfig
from pupload.containers.images import Image, NoImage, Supply
from pupload.containers.names import Registries, is_exact
from pupload.containers.pulling import Fault
from pupload.failpoints import reach
from pupload.flow.plan import Reason
from pupload.protocol import Pin
from pupload.worker.failure import NodeFailure
from pupload.worker.shop import Attempt, Shop

_REASONS = {Fault.NAME: Reason.IMAGE, Fault.IMAGE: Reason.IMAGE, Fault.AWAY: Reason.INFRA, Fault.RULE: Reason.POLICY}


def supply_of(config: WorkerConfig) -> Supply:
    """How this worker may have images."""
    logins = {
        registry: {"username": login.username, "password": login.password.get_secret_value()}
        for registry, login in config.registry_logins.items()
    }
    return Supply(config.image_timeout_s, config.pulls_per_minute, Registries(config.registries), logins)


async def require_image(shop: Shop, attempt: Attempt) -> Image:
    """The attempt's image, held until the attempt lets go of it.

    Errors: NodeFailure for one that is not to be had or not allowed; LostLease; EngineUnavailable.
    """
    name, exact = attempt.assignment.image, attempt.assignment.exact
    _require_allowed(shop, name, exact)
    image = await _required(shop, attempt, exact or name)
    if not exact and not is_exact(name):
        agreed = await shop.control.pin(Pin(ref=attempt.assignment.ref, image=name, exact=image.exact))
        if agreed != image.exact:
            image = await _required(shop, attempt, agreed)
    shop.images.hold(attempt.name, image)
    await reach("image.present")
    return image


async def _required(shop: Shop, attempt: Attempt, name: str) -> Image:
    try:
        return await shop.images.require(name, attempt.log.say)
    except NoImage as error:
        asked = attempt.assignment.image
        if name == asked:
            raise NodeFailure(_REASONS[error.fault], str(error), final=error.final) from error
        # Another worker has it, or had: a try there may still succeed.
        text = f"{error}; {name} is what {asked} meant when this run began to use it"
        raise NodeFailure(_REASONS[error.fault], text, final=error.fault is Fault.RULE) from error


def _require_allowed(shop: Shop, name: str, exact: str) -> None:
    """The last wall: whatever the controller has let through."""
    if refusal := Registries(shop.config.registries).refusal(name):
        raise NodeFailure(Reason.POLICY, f"this worker refuses the node: {refusal}", final=True)
    if shop.config.require_digest and not is_exact(exact or name):
        text = f"this worker runs exact images only, and {name} is a tag: name it by digest (name@sha256:…)"
        raise NodeFailure(Reason.POLICY, text, final=True)
