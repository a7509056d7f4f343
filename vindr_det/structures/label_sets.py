"""Label sets: the findings of a data set, their order, and whether "no finding" is a class too."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from vindr_det.exceptions import InputError


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

    @property
    def no_finding_id(self) -> int | None:
        """The class id of "no finding"; None where it is no class."""
        return None if self.no_finding is None else len(self.findings)

    @property
    def mean_ap(self) -> str:
        """Key of the mean PASCAL VOC AP at IoU > 0.4: the competition's metric for its set."""
        return "vindr/mAP40" if self.classes == VINBIGDATA.classes else "voc/mAP40"

    @property
    def class_ap(self) -> str:
        """Key of a class's AP, ``{}`` standing for its name."""
        return self.mean_ap.replace("mAP40", "AP40/{}")

    def id_of(self, name: str) -> int | None:
        """The class id of a name, whatever its case; None for a name that is not in the set."""
        wanted = name.strip().casefold()
        return next((at for at, known in enumerate(self.classes) if known.casefold() == wanted), None)


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

#: The eight findings of NIH ChestX-ray14 that have boxes (BBox_List_2017.csv), by the names of its labels.
NIH_BOXES = LabelSet("NIH boxes", NIH.findings[:8])

#: VinDr-CXR as PhysioNet releases it: local labels, which have boxes.
VINDR_CXR = LabelSet("VinDr-CXR", (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Clavicle fracture",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Enlarged PA",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Lung cavity",
    "Lung cyst",
    "Mediastinal shift",
    "Nodule/Mass",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
    "Rib fracture",
    "Other lesion",
), no_finding="No finding")

#: VinDr-CXR's global labels, which are of whole images; the test table writes "Other disease".
VINDR_CXR_GLOBAL = LabelSet("VinDr-CXR global", (
    "COPD",
    "Lung tumor",
    "Pneumonia",
    "Tuberculosis",
    "Other diseases",
), no_finding="No finding")

#: VinDr-PCXR, of children: findings with boxes, in the spelling of its tables.
VINDR_PCXR = LabelSet("VinDr-PCXR", (
    "Boot-shaped heart",
    "Peribronchovascular interstitial opacity",
    "Reticulonodular opacity",
    "Bronchial thickening",
    "Enlarged PA",
    "Cardiomegaly",
    "Diffuse aveolar opacity",
    "Other opacity",
    "Other lesion",
    "Consolidation",
    "Mediastinal shift",
    "Anterior mediastinal mass",
    "Dextro cardia",
    "Pleural effusion",
    "Stomach on the right side",
    "Atelectasis",
    "Lung hyperinflation",
    "Egg on string sign",
    "Interstitial lung disease - ILD",
    "Infiltration",
    "Lung cavity",
    "Pneumothorax",
    "Edema",
    "Pleural thickening",
    "Other nodule/mass",
    "Clavicle fracture",
    "Chest wall mass",
    "Lung cyst",
    "Emphysema",
    "Bronchectasis",
    "Expanded edges of the anterior ribs",
    "Pulmonary fibrosis",
    "Paraveterbral mass",
    "Aortic enlargement",
    "Calcification",
    "Intrathoracic digestive structure",
), no_finding="No finding")

#: VinDr-PCXR's diagnoses, which are of whole images, in the order and spelling of its tables.
VINDR_PCXR_GLOBAL = LabelSet("VinDr-PCXR global", (
    "Bronchitis",
    "Brocho-pneumonia",
    "Other disease",
    "Bronchiolitis",
    "Situs inversus",
    "Pneumonia",
    "Pleuro-pneumonia",
    "Diagphramatic hernia",
    "Tuberculosis",
    "Congenital emphysema",
    "CPAM",
    "Hyaline membrane disease",
    "Mediastinal tumor",
    "Lung tumor",
), no_finding="No finding")

#: ChestX-Det: NIH's images with boxes by three radiologists.
CHESTX_DET = LabelSet("ChestX-Det", (
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "Diffuse Nodule",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Fracture",
    "Mass",
    "Nodule",
    "Pleural Thickening",
    "Pneumothorax",
))

#: ChestX-Det10, the earlier version without the three labels that ChestX-Det added.
CHESTX_DET10 = LabelSet("ChestX-Det10", tuple(
    name for name in CHESTX_DET.findings
    if name not in ("Cardiomegaly", "Diffuse Nodule", "Pleural Thickening")))

#: RSNA's pneumonia detection challenge of 2018.
RSNA_PNEUMONIA = LabelSet("RSNA pneumonia", ("Lung Opacity",))

#: The SIIM-FISABIO-RSNA COVID-19 detection challenge of 2021.
SIIM_COVID = LabelSet("SIIM-COVID", ("Opacity",))

#: SIIM-COVID's labels of whole studies.
SIIM_COVID_STUDY = LabelSet("SIIM-COVID study", (
    "Typical Appearance",
    "Indeterminate Appearance",
    "Atypical Appearance",
), no_finding="Negative for Pneumonia")

#: The shipped sets, by the name that VINDR.LABEL_SET takes.
LABEL_SETS: Mapping[str, LabelSet] = {label_set.name: label_set for label_set in (
    VINBIGDATA, VINDR_CXR, VINDR_CXR_GLOBAL, VINDR_PCXR, VINDR_PCXR_GLOBAL, NIH, NIH_BOXES, CHESTX_DET,
    CHESTX_DET10, RSNA_PNEUMONIA, SIIM_COVID, SIIM_COVID_STUDY)}


def shipped_label_set(name: str) -> LabelSet | None:
    """The shipped set of a name, whatever its case; None where there is none."""
    return {key.casefold(): of for key, of in LABEL_SETS.items()}.get(name.strip().casefold())


def label_set_named(name: str, findings: Sequence[str] = ()) -> LabelSet:
    """The shipped set of a name, or one of these findings.

    Raises:
        InputError: no shipped set and no findings, other findings than the shipped set's, or findings that
            are no names, each once.
    """
    shipped, findings = LABEL_SETS.get(name), _names(findings)
    if not findings:
        if shipped is None:
            raise InputError(f"VINDR.LABEL_SET {name!r}: expected one of {', '.join(LABEL_SETS)}, or any "
                             "name and its findings in VINDR.FINDINGS")
        return shipped
    if shipped is not None and shipped.findings != tuple(findings):
        raise InputError(f"VINDR.FINDINGS {tuple(findings)}: expected {shipped.findings} for VINDR.LABEL_SET "
                         f"{name!r}, or another name")
    return shipped or LabelSet(name, tuple(findings))


def _names(findings: Sequence[str]) -> tuple[str, ...]:
    """Names of findings, without spaces at their ends."""
    names: dict[str, str] = {}
    for at, finding in enumerate(findings):
        if not isinstance(finding, str) or not finding.strip():
            raise InputError(f"VINDR.FINDINGS: class {at} is {finding!r}, expected a name; quotes make a "
                             "text of yes, no and numbers")
        name = " ".join(finding.casefold().split())
        if name in ("no finding", "no findings"):
            raise InputError(f"VINDR.FINDINGS: class {at} is {finding!r}, expected findings alone: "
                             "images without boxes are those without findings")
        if name in names:
            raise InputError(f"VINDR.FINDINGS: {finding!r} is there twice, expected each finding once")
        names[name] = finding.strip()
    return tuple(names.values())


def nearest_name(name: str, label_set: LabelSet) -> str:
    """The finding of a set whose name is the most like a text, or has it as a word."""
    wanted, lower = name.strip().casefold(), {known.casefold(): known for known in label_set.findings}
    words = [known for known in lower if wanted in known.split()]
    return lower[(words or difflib.get_close_matches(wanted, lower, 1, 0))[0]]


def first_difference(own: LabelSet, expected: LabelSet) -> str:
    """The first class in which two label sets differ, in words."""
    pairs = zip_longest(own.classes, expected.classes)
    differing = [(at, *pair) for at, pair in enumerate(pairs) if pair[0] != pair[1]]
    if not differing:
        return "the same classes by another name"
    at, there, wanted = differing[0]
    return (f"class {at} is {'missing' if there is None else repr(there)}, expected "
            f"{'no further one' if wanted is None else repr(wanted)}")


def same_label_set(label_sets: Iterable[LabelSet], what: str) -> LabelSet:
    """The one label set of several things; VinBigData's of none.

    Args:
        label_sets: of each.
        what: names them in the error.

    Raises:
        InputError: two differ.
    """
    first: LabelSet | None = None
    for label_set in label_sets:
        if label_set is first:  # of nearly all
            continue
        first = first or label_set
        if label_set is not first and label_set != first:
            raise InputError(f"{what}: label sets {first.name} and {label_set.name}, expected a single one "
                             f"({first_difference(label_set, first)})")
    return first or VINBIGDATA


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
