"""What is put on record of each variant of a run, so that pages know it where nothing of the variants is."""

from suite.bench.estimate import dtype_of
from suite.core.described import role
from suite.core.records import Description
from variants import canonical, mechanisms
from variants.transforms import TRANSFORMS


def describe(name: str) -> Description:
    """A variant's description.

    Args:
        name: canonical, of a mechanism that is known here.
    """
    spec = canonical(name)
    origin = mechanisms()[spec.mechanism].origin
    known = {} if origin is None else {"where": origin.where, "differs": origin.differs, "ours": origin.ours}
    if origin is not None:
        known["nearest"] = origin.nearest or canonical(origin.ours).mechanism
    return Description(
        task="run",
        variant=name,
        mechanism=spec.mechanism,
        parent=str(spec.plain),
        role=role(spec.mechanism, published=origin is not None),
        options=dict(spec.options),
        transforms={TRANSFORMS[word].axis: word for word in spec.transforms},
        dtype=dtype_of(spec),
        **known,
    )
