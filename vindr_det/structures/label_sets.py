"""Label sets: the findings of a data set, their order, and whether "no finding" is a class too."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LabelSet:
    """The classes of a data set.

    Attributes:
        name: of the data set.
        findings: their names; the position is the class id.
        no_finding: name of the class after them, which stands for "none of the findings"; None if there is
            none.
    """

    name: str
    findings: tuple[str, ...]
    no_finding: str | None = None

    def __len__(self) -> int:
        """Number of findings."""
        return len(self.findings)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of all classes by class id, "no finding" last."""
        return self.findings if self.no_finding is None else (*self.findings, self.no_finding)


#: VinBigData's 14 findings and class 14, in the order that the competition fixes: train.csv and submissions
#: hold the class ids.
VINBIGDATA = LabelSet("VinBigData", (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Nodule/Mass",
    "Other lesion",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
), no_finding="No finding")

#: NIH ChestX-ray14's labels in the order of Wang et al., CVPR 2017.
NIH = LabelSet("NIH ChestX-ray14", (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
), no_finding="No Finding")

# Views of VinBigData's set, which the competition's metric and submissions are written in.
FINDINGS = VINBIGDATA.findings
NUM_FINDINGS = len(VINBIGDATA)
NO_FINDING_ID = NUM_FINDINGS
NO_FINDING = VINBIGDATA.classes[NO_FINDING_ID]
#: All 15 classes of the competition's metric, by class id.
CLASS_NAMES = VINBIGDATA.classes
#: The box (xyxy, pixels) that stands for "no finding" in the competition's truth and submissions.
NO_FINDING_BOX: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)

NIH_LABELS = NIH.findings


def column_of(label: str) -> str:
    """The column of a label's probability: ``Pleural effusion`` -> ``p_pleural_effusion``."""
    return "p_" + "_".join(label.lower().replace("/", " ").split())
