from memvirt.engine.mapping.ages import Ages
from memvirt.engine.mapping.backing import Backings
from memvirt.engine.stores.swapspace import SwapSpace
from memvirt.engine.stores.zpool import Zpool

class Mapping:
    ages: Ages
    backings: Backings
    swap: SwapSpace | None
    zpool: Zpool | None
