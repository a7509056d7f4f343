"""What a box on a picture is: predicted or true, and where both are known, whether it is right."""

from enum import Enum


class Outcome(Enum):
    """Of a box; the value is its name in legends.

    Where only predicted or only true boxes are known, all are ``PREDICTED`` or ``TRUE``.
    """

    PREDICTED = "predicted"
    TRUE = "true"
    TRUE_POSITIVE = "true positive"
    FALSE_POSITIVE = "false positive (FP)"
    #: A predicted box of a finding for which the annotations of the image are incomplete.
    NOT_JUDGED = "not judged (annotations incomplete)"
    #: A true box that a true positive is matched with.
    DETECTED = "true box, detected"
    #: A true box that no detection is matched with.
    MISSED = "true box, missed (FN)"
