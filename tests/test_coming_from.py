"""What docs/coming_from.md states beside its commands, which test_documents.py runs."""

from pages import blocks, text_of

PAGE = "docs/coming_from.md"


def test_the_page_has_every_system_and_its_commands():
    text = text_of(PAGE)
    for system in ("chestXRay-Detection", "cxr-anomaly-detection", "cxr-pneumonia",
                   "chest-xray-disease-classification", "Zahra-Khazaei/Chest-X-ray"):
        assert system in text
    assert len(blocks(PAGE)) >= 40 and text.count("\n| ") >= 100
    for figure in ("18.41", "18.50", "14.49", ".2934", ".2842", ".986", ".9824", ".7055"):
        assert figure in text


def test_of_the_published_figures_none_is_ours():
    """Columns of reference figures say so: what is not measured here is not filled in."""
    text = text_of(PAGE)
    assert text.count("not measured") >= 3 and "not results of this project" in text
