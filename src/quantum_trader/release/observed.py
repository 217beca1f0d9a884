"""What archived decisions say of the window that they make: what a registration is compared with."""

import pyarrow as pa
import pyarrow.compute as pc

from quantum_trader.core.errors import ConfigError
from quantum_trader.core.predictions import MODELS, Role
from quantum_trader.release.registration import Observed


def observed(table: pa.Table, model: str) -> Observed:
    """What the decisions of a window say of the judged model and its electorate.

    Electorate, artefacts and features are those of the first decision: that they stay the same is another question.
    A shadow's artefact is that of its first answer.

    Args:
        table: In the archive's schema, not empty, in any order.
        model: Short name of the judged model.

    Raises:
        ConfigError: if the table is empty, or the model was never a shadow in it.
    """
    if not len(table):
        raise ConfigError("no decisions in the window: there is nothing to judge")
    first = table.slice(pc.index(table["ts_open"], pc.min(table["ts_open"])).as_py(), 1).to_pylist()[0]
    voters = [name for name in MODELS if first[f"{name}.role"] == Role.VOTER.value]
    watched = table.filter(pc.equal(table[f"{model}.role"].cast(pa.string()), Role.SHADOW.value))
    digests = [digest for digest in pc.unique(watched[f"{model}.artefact"].cast(pa.string())).to_pylist() if digest]
    if not digests:
        raise ConfigError(f"model {model}: it gave no answer as a shadow in these decisions")
    return Observed(
        artefact=digests[0],
        window_start=first["ts_close"],
        weights={name: first[f"{name}.weight"] for name in voters},
        artefacts={name: first[f"{name}.artefact"] for name in voters},
        min_consensus=first["min_consensus"],
        vote_policy=first["policy"],
        symbols=sorted(pc.unique(table["symbol"].cast(pa.string())).to_pylist()),
        timeframe=first["timeframe"],
        features=first["features"],
    )
