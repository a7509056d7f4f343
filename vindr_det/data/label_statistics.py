"""A table of image-level labels in tables: patients, ages, sex, views, labels, what occurs together."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vindr_det.data.image_labels import ImageLabels

#: Nobody is known to have become older.
MAX_AGE = 122
#: Rows of the table of combinations.
MOST_FREQUENT = 15
_QUANTILES = {"min": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1.0}
_TOTAL = "all"


@dataclass(frozen=True)
class LabelOverview:
    """The tables, each indexed by what its rows are; empty where the labels' table lacks their columns.

    Attributes:
        columns: of the labels' table: type, empty and distinct values, what each is taken for.
        labels: a row per label: images, their share, patients, images without another label; images per sex
            and per view.
        labels_per_image: images by their number of findings.
        combinations: the most frequent sets of labels.
        together: images with the row's finding that also show the column's; the diagonal counts the row's.
        co_occurrence: the same as a share of the images with the row's finding.
        ages: images and patients per range of ages; patients by their highest possible age.
        sexes: images and patients per sex, and their share.
        views: images per view, and their share.
        per_patient: quantiles and mean of a patient's images, findings and follow-ups.
        images_per_patient: patients by their number of images.
    """

    columns: pd.DataFrame
    labels: pd.DataFrame
    labels_per_image: pd.DataFrame
    combinations: pd.DataFrame
    together: pd.DataFrame
    co_occurrence: pd.DataFrame
    ages: pd.DataFrame
    sexes: pd.DataFrame
    views: pd.DataFrame
    per_patient: pd.DataFrame
    images_per_patient: pd.DataFrame


def describe_labels(labels: ImageLabels) -> LabelOverview:
    """All tables of labels of images."""
    together = _together(labels)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = together / np.diag(together)[:, None]
    images = _images_per_patient(labels)
    return LabelOverview(
        columns=labels.columns, labels=_labels(labels), labels_per_image=_labels_per_image(labels),
        combinations=_combinations(labels), together=together, co_occurrence=share, ages=_ages(labels),
        sexes=_shares_of(labels, "sex"), views=_shares_of(labels, "view"),
        per_patient=_per_patient(labels, images), images_per_patient=_image_ranges(images))


def _labels(labels: ImageLabels) -> pd.DataFrame:
    frame, matrix = labels.frame, labels.frame[list(labels.labels)]
    alone = matrix.sum(axis=1) == 1
    table = pd.DataFrame({"images": matrix.sum(), "percent": 100 * matrix.mean(),
                          "alone": matrix[alone].sum()})
    if "patient" in frame:
        table["patients"] = [frame.loc[frame[name] == 1, "patient"].nunique() for name in matrix]
    for column in ("sex", "view"):
        if column in frame:
            table = table.join(matrix.groupby(frame[column]).sum().T)
    return table.rename_axis("label")


def _labels_per_image(labels: ImageLabels) -> pd.DataFrame:
    return _counts(labels.frame[labels.findings].sum(axis=1), "findings", "images")


def _counts(values: pd.Series, index: str, column: str) -> pd.DataFrame:
    return values.value_counts().sort_index().rename_axis(index).to_frame(column)


def _combinations(labels: ImageLabels) -> pd.DataFrame:
    counts = labels.frame[list(labels.labels)].value_counts()
    table = pd.DataFrame({"images": counts.to_numpy(), "percent": 100 * counts.to_numpy() / counts.sum()})
    table.index = pd.Index([_names(labels, row) for row in counts.index], name="labels")
    order = np.lexsort((table.index, -table["images"]))  # equal counts by name, in the same order each time
    return table.iloc[order].head(MOST_FREQUENT)


def _names(labels: ImageLabels, row: tuple[int, ...]) -> str:
    return " | ".join(name for name, value in zip(labels.labels, row, strict=True) if value) or "none"


def _together(labels: ImageLabels) -> pd.DataFrame:
    present = labels.frame[labels.findings].to_numpy(np.int64)
    names = pd.Index(labels.findings, name="label")
    return pd.DataFrame(present.T @ present, index=names, columns=labels.findings)


def _ages(labels: ImageLabels) -> pd.DataFrame:
    if "age" not in labels.frame:
        return pd.DataFrame()
    ages = labels.frame["age"]
    ranges = {"images": _age_ranges(ages)}
    if "patient" in labels.frame:
        possible = ages.where(ages <= MAX_AGE)
        highest = possible.groupby(labels.frame["patient"]).max()
        only = ages.groupby(labels.frame["patient"]).min()  # of patients without a possible age
        ranges["patients"] = _age_ranges(highest.fillna(only))
    table = pd.DataFrame({name: counts.value_counts(sort=False) for name, counts in ranges.items()})
    for name in list(table):
        table[f"percent_of_{name}"] = 100 * table[name] / table[name].sum()
    return table.rename_axis("age")


def _age_ranges(ages: pd.Series) -> pd.Series:
    """The range of each age, as a categorical."""
    edges = [-np.inf, *range(10, 71, 10), 81, MAX_AGE + 1, np.inf]
    names = ["under 10", *(f"{low} to {low + 9}" for low in range(10, 70, 10)), "70 to 80",
             f"81 to {MAX_AGE}", f"over {MAX_AGE} (impossible)"]
    return pd.cut(ages, edges, right=False, labels=names).cat.add_categories("none").fillna("none")


def _shares_of(labels: ImageLabels, column: str) -> pd.DataFrame:
    if column not in labels.frame:
        return pd.DataFrame()
    groups = labels.frame.fillna({column: "none"}).groupby(column)
    table = pd.DataFrame({"images": groups.size()})
    if column == "sex" and "patient" in labels.frame:
        table["patients"] = groups["patient"].nunique()
    for name in list(table):
        table[f"percent_of_{name}"] = 100 * table[name] / table[name].sum()
    return table


def _images_per_patient(labels: ImageLabels) -> pd.Series:
    return labels.frame["patient"].value_counts() if "patient" in labels.frame else pd.Series(dtype=np.int64)


def _image_ranges(images: pd.Series) -> pd.DataFrame:
    edges = [*range(1, 7), 11, 21, 51, np.inf]
    names = [*"12345", "6 to 10", "11 to 20", "21 to 50", "over 50"]
    ranges = pd.cut(images, edges, right=False, labels=names).value_counts(sort=False)
    return ranges.rename_axis("images").to_frame("patients") if len(images) else pd.DataFrame()


def _per_patient(labels: ImageLabels, images: pd.Series) -> pd.DataFrame:
    if "patient" not in labels.frame:
        return pd.DataFrame()
    patients = labels.frame.groupby("patient")
    counts = {"images": images, "findings": patients[labels.findings].max().sum(axis=1)}
    if "follow_up" in labels.frame:
        counts["follow-ups"] = patients["follow_up"].max()
    rows = {name: [*np.quantile(values, list(_QUANTILES.values())), values.mean(), len(values),
                   int((values > (name == "images")).sum())] for name, values in counts.items()}
    columns = [*_QUANTILES, "mean", "patients", "more"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("of a patient")


def named_label_tables(overview: LabelOverview) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """File name, title and table of everything that the labels' table has."""
    titles = {
        "columns": "Columns of the table",
        "labels": "Labels (alone: images without another label)",
        "labels_per_image": "Findings per image",
        "combinations": f"The {MOST_FREQUENT} most frequent combinations",
        "together": "Images with the row's finding that show the column's too (diagonal: all of the row's)",
        "co_occurrence": "Share of the images with the row's finding that show the column's too",
        "ages": "Ages (patients: by their highest possible age)",
        "sexes": "Sex",
        "views": "Views",
        "per_patient": "Per patient (more: patients with more than one image, any finding, any follow-up)",
        "images_per_patient": "Patients by their number of images",
    }
    for name, title in titles.items():
        table = getattr(overview, name)
        if len(table):
            yield name, title, table
