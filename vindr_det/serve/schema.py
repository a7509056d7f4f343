"""The forms of the service's answers, for its OpenAPI description."""

from pydantic import BaseModel, Field


class Box(BaseModel):
    """A detection; corners in pixels of the original."""

    class_id: int
    class_name: str
    score: float
    x_min: float
    y_min: float
    x_max: float
    y_max: float


class EvidenceMap(BaseModel):
    """A Grad-CAM map of a label; the agreement is null where no box of that finding is shown."""

    column: str
    probability: float
    energy_in_boxes: float | None = Field(description="share of the map's sum inside the boxes")
    area_of_boxes: float | None = Field(description="share of the image inside the boxes")
    maximum_in_box: bool | None
    picture: str = Field(description="data URL, over the whole image")


class Report(BaseModel):
    """An image, with the keys of S.predictions.json; nothing is known about one whose status is failed."""

    image_id: str
    file: str
    status: str = Field(description="ok, flagged (look at the image before you trust it) or failed")
    reason: str
    StudyInstanceUID: str | None = Field(None, description="with uids=true, like the other two")
    SeriesInstanceUID: str | None = None
    SOPInstanceUID: str | None = None
    height: int | None
    width: int | None
    probabilities: dict[str, float] | None = Field(description="of the classifier")
    no_finding: float | None
    boxes: list[Box] | None = Field(description="null where the image was not read, never an empty list")
    picture: str | None = Field(None, description="with picture=true: data URL")
    maps: list[EvidenceMap] | None = Field(None, description="with maps above 0")


class Health(BaseModel):
    """Whether the service answers."""

    status: str
    busy: int = Field(description="uploads that are received or answered now")


class About(BaseModel):
    """What the service runs."""

    version: str
    bundle: str
    digest: str
    notice: str
    findings: list[str]
    colors: list[str]
    classifier: list[str] = Field(description="columns of its probabilities; empty without one")
    max_upload_bytes: int


class Problem(BaseModel):
    """Why a request has no answer."""

    detail: str
