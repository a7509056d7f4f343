"""The label sets: VinDr's 14 findings and class 14, and NIH's 14 labels. One table, one order."""

#: VinDr-CXR's findings; the position is the class id in train.csv and in submissions.
FINDINGS: tuple[str, ...] = (
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
)

NUM_FINDINGS = len(FINDINGS)

#: The competition's fifteenth class: the image shows none of the findings.
NO_FINDING_ID = NUM_FINDINGS
NO_FINDING = "No finding"

#: All 15 classes of the competition's metric, by class id.
CLASS_NAMES: tuple[str, ...] = (*FINDINGS, NO_FINDING)

#: The box (xyxy, pixels) that stands for "no finding" in ground truth and in submissions.
NO_FINDING_BOX: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)

#: NIH ChestX-ray14's labels in the order of Wang et al., CVPR 2017.
NIH_LABELS: tuple[str, ...] = (
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
)


def column_of(label: str) -> str:
    """The column of a label's probability: ``p_pleural_effusion``; its sign is in its name."""
    return "p_" + "_".join(label.lower().replace("/", " ").split())
