"""What a foreign module's arguments and outputs mean: one search over readings of its signature, decided by trials."""

from suite.audit.reading.adapter import Adapter
from suite.audit.reading.inputs import Stated
from suite.audit.reading.refusal import NotUnderstood
from suite.audit.reading.understanding import Understood, understand

__all__ = ["Adapter", "NotUnderstood", "Stated", "Understood", "understand"]
