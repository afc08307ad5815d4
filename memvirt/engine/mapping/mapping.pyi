from memvirt.engine.mapping.ages import Ages
from memvirt.engine.mapping.backing import Backings
from memvirt.engine.mapping.recency import Recency
from memvirt.engine.stores.swap import Swap
from memvirt.engine.stores.swapset import SwapSet
from memvirt.engine.stores.zpool import Zpool

class Mapping:
    ages: Ages
    backings: Backings
    recency: Recency
    swap: Swap | SwapSet | None
    zpool: Zpool | None
